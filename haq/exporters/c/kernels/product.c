/* A convolution or a matrix product with constant weights. */
struct haq_product {
    const uint8_t *weights;  /* dense stream of codes */
    const int32_t *factors;  /* biases, with the zero point of the input folded in, and mantissas, of filter by filter */
    const int8_t *exponents; /* of the factors from sums to codes of the output */
    void (*unpack)(const uint8_t *stream, int32_t first, int32_t count, int8_t *codes);
    void (*dot)(const struct haq_product *p, const int8_t *a, const int8_t *b, const int32_t *steps,
                const int32_t *words, int32_t *sums);
    int16_t field;   /* bits of the lower of two codes in a word */
    int16_t period;  /* products that `dot` can add up */
    int16_t row;     /* codes in a row of a window */
    int16_t in_height, in_width, in_channels;
    int16_t out_height, out_width, out_channels;
    int16_t kernel_height, kernel_width, stride_y, stride_x, top, left, dilation_y, dilation_x, groups;
    int16_t shift; /* of the sums, before the bias is added */
    int16_t in_zero, out_zero, low, high;
};
