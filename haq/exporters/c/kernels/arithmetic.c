/* Shifts of negative numbers copy the sign, and conversions to signed types keep the bits, as on all usual compilers. */
typedef char haq_requires_arithmetic_shift[(-1 >> 1) == -1 ? 1 : -1];
typedef char haq_requires_modular_conversion[(int32_t)UINT32_MAX == -1 ? 1 : -1];

static int32_t haq_clip(int32_t value, int32_t low, int32_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* Return value * mantissa / 2^31, rounded to nearest with halves upwards. */
static int32_t haq_multiply_high(int32_t value, int32_t mantissa)
{
    return (int32_t)(((int64_t)value * mantissa + (INT64_C(1) << 30)) >> 31);
}

/* Return value * mantissa * 2^(exponent - 31), rounded to the high half, then to nearest with halves away from zero. */
static int32_t haq_multiply(int32_t value, int32_t mantissa, int32_t exponent)
{
    if (exponent > 0) { /* what exceeds 30 bits exceeds the range of codes after the product, too */
        const int64_t wide = (int64_t)value * (INT64_C(1) << exponent);
        const int32_t limit = INT32_C(1) << 30;
        return haq_multiply_high(wide > limit ? limit : wide < -limit ? -limit : (int32_t)wide, mantissa);
    }
    const int32_t high = haq_multiply_high(value, mantissa);
    const int32_t mask = (int32_t)((UINT32_C(1) << -exponent) - 1u);
    return (high >> -exponent) + ((high & mask) > (mask >> 1) + (high < 0));
}
