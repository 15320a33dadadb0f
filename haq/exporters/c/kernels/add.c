/* A sum of two tensors. Exponents are stored as places to shift right. */
struct haq_sum {
    int32_t a_mantissa, b_mantissa, out_mantissa;
    int16_t a_places, b_places, out_places, a_zero, b_zero, out_zero, low, high;
};

/* Fill a table with the values of all codes, in fixed point. */
static void haq_fill(int32_t *table, int32_t zero, int32_t mantissa, int32_t places)
{
    for (int32_t code = -128; code < 128; code++)
        *table++ = haq_divide(haq_multiply_high((code - zero) * (INT32_C(1) << 20), mantissa), places);
}

/* Add pixels of some channels; the second tensor repeats its first pixel where `b_step` is 0. `scratch` has room for two
 * tables. */
HAQ_KERNEL static void haq_add(const struct haq_sum *p, const int8_t *a, const int8_t *b, int8_t *output,
                               int32_t pixels, int32_t channels, int32_t b_step, int32_t *scratch)
{
    const int32_t *const left = scratch + 128, *const right = scratch + 384; /* at code 0 */
    const int32_t mantissa = p->out_mantissa, places = p->out_places, zero = p->out_zero;
    const int32_t low = p->low, high = p->high;
    haq_fill(scratch, p->a_zero, p->a_mantissa, p->a_places);
    haq_fill(scratch + 256, p->b_zero, p->b_mantissa, p->b_places);
    for (int32_t pixel = 0; pixel < pixels; pixel++, a += channels, b += b_step, output += channels)
        for (int32_t at = 0; at < channels; at++) {
            const int32_t sum = haq_divide(haq_multiply_high(left[a[at]] + right[b[at]], mantissa), places);
            output[at] = (int8_t)haq_clip(sum + zero, low, high);
        }
}
