/* Return one code of a dense stream: code i fills the bits from i * bits on, lowest bits first. */
static int8_t haq_code(const uint8_t *stream, int32_t index, int32_t bits)
{
    const int32_t bit = index * bits;
    const uint8_t *at = stream + bit / 8;
    uint32_t window = *at;
    if (bit % 8 + bits > 8)
        window |= (uint32_t)at[1] << 8;
    return (int8_t)((int32_t)(window << (32 - bit % 8 - bits)) >> (32 - bits));
}
