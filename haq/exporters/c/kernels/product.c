/* A convolution or a matrix product with constant weights. */
struct haq_product {
    const uint8_t *weights;  /* dense stream of codes */
    const int32_t *bias;     /* the zero point of the input is folded in */
    const int32_t *mantissa; /* factors from sums to codes of the output, per filter */
    const int8_t *exponent;
    void (*unpack)(const uint8_t *stream, int32_t first, int32_t count, int8_t *codes);
    void (*dot)(const int8_t *a, const int8_t *b, const int32_t *words, int32_t count, int32_t *sums);
    int16_t filters; /* filters in a block, which `dot` computes together */
    int16_t period;  /* products that `dot` can add up */
    int16_t in_height, in_width, in_channels;
    int16_t out_height, out_width, out_channels;
    int16_t kernel_height, kernel_width, stride_y, stride_x, top, left, dilation_y, dilation_x, groups;
    int16_t in_zero, out_zero, low, high;
};

static int8_t haq_requantize(const struct haq_product *p, int32_t filter, int32_t sum)
{
    const int32_t value = haq_multiply(sum + p->bias[filter], p->mantissa[filter], p->exponent[filter]);
    return (int8_t)haq_clip(value + p->out_zero, p->low, p->high);
}
