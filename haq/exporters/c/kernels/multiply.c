/* A product of two tensors. */
struct haq_tensor_product {
    int32_t mantissa;
    int16_t exponent, a_zero, b_zero, out_zero, low, high;
};

/* Multiply pixels of some channels; the second tensor repeats its first pixel where `b_step` is 0. */
HAQ_KERNEL static void haq_multiply_tensors(const struct haq_tensor_product *p, const int8_t *a, const int8_t *b, int8_t *output,
                                 int32_t pixels, int32_t channels, int32_t b_step)
{
    for (int32_t pixel = 0; pixel < pixels; pixel++, a += channels, b += b_step, output += channels)
        for (int32_t at = 0; at < channels; at++) {
            const int32_t product = (a[at] - p->a_zero) * (b[at] - p->b_zero);
            const int32_t value = haq_multiply(product, p->mantissa, p->exponent) + p->out_zero;
            output[at] = (int8_t)haq_clip(value, p->low, p->high);
        }
}
