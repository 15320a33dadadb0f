/* A convolution or a matrix product with constant weights. */
struct haq_product {
    const uint8_t *weights;  /* dense stream of codes */
    const int32_t *bias;     /* the zero point of the input is folded in */
    const int32_t *mantissa; /* factors from sums to codes of the output, per filter */
    const int8_t *exponent;
    void (*unpack)(const uint8_t *stream, int32_t first, int32_t count, int8_t *codes);
    void (*dot)(const struct haq_product *p, const int8_t *a, const int8_t *b, const int32_t *steps,
                const int32_t *words, int32_t *sums);
    int16_t filters; /* filters in a block, which `dot` computes together */
    int16_t period;  /* products that `dot` can add up */
    int16_t in_height, in_width, in_channels;
    int16_t out_height, out_width, out_channels;
    int16_t kernel_height, kernel_width, stride_y, stride_x, top, left, dilation_y, dilation_x, groups;
    int16_t shift; /* of the sums, before the bias is added */
    int16_t in_zero, out_zero, low, high;
};

/* Convert sums of a filter at some pixels to codes. */
static void haq_requantize(const struct haq_product *p, int32_t filter, const int32_t *sums, int32_t step,
                           int32_t count, int8_t *output)
{
    const int32_t bias = p->bias[filter], mantissa = p->mantissa[filter], exponent = p->exponent[filter];
    for (; count > 0; count--, sums += step, output += p->out_channels) {
        const int32_t value = haq_multiply(*sums * (INT32_C(1) << p->shift) + bias, mantissa, exponent) + p->out_zero;
        *output = (int8_t)haq_clip(value, p->low, p->high);
    }
}
