/* Return value / 2^places, rounded to nearest with halves away from zero. */
static int32_t haq_divide(int32_t value, int32_t places)
{
    const int32_t mask = (int32_t)((UINT32_C(1) << places) - 1u);
    return (value >> places) + ((value & mask) > (mask >> 1) + (value < 0));
}
