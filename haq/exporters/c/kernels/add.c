/* A sum of two tensors. */
struct haq_sum {
    int32_t a_mantissa, b_mantissa, out_mantissa;
    int16_t a_exponent, b_exponent, out_exponent, a_zero, b_zero, out_zero, low, high;
};

/* Add pixels of some channels; the second tensor repeats its first pixel where `b_step` is 0. */
HAQ_KERNEL static void haq_add(const struct haq_sum *p, const int8_t *a, const int8_t *b, int8_t *output, int32_t pixels,
                    int32_t channels, int32_t b_step)
{
    for (int32_t pixel = 0; pixel < pixels; pixel++, a += channels, b += b_step, output += channels)
        for (int32_t at = 0; at < channels; at++) {
            const int32_t left = haq_multiply((a[at] - p->a_zero) * (INT32_C(1) << 20), p->a_mantissa, p->a_exponent);
            const int32_t right = haq_multiply((b[at] - p->b_zero) * (INT32_C(1) << 20), p->b_mantissa, p->b_exponent);
            const int32_t sum = haq_multiply(left + right, p->out_mantissa, p->out_exponent);
            output[at] = (int8_t)haq_clip(sum + p->out_zero, p->low, p->high);
        }
}
