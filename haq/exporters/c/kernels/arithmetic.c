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
