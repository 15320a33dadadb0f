/* Return value * mantissa * 2^(exponent - 31), rounded to the high half, then to nearest with halves away from zero. */
static int32_t haq_multiply(int32_t value, int32_t mantissa, int32_t exponent)
{
    if (exponent > 0) { /* what exceeds 30 bits exceeds the range of codes after the product, too */
        const int64_t wide = (int64_t)value * (INT64_C(1) << exponent);
        const int32_t limit = INT32_C(1) << 30;
        return haq_multiply_high(wide > limit ? limit : wide < -limit ? -limit : (int32_t)wide, mantissa);
    }
    return haq_divide(haq_multiply_high(value, mantissa), -exponent);
}
