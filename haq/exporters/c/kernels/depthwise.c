/* Sum of the products under the kernel; outside of the image lie codes of zero. */
static int32_t haq_border_sum(const struct haq_product *p, const int8_t *input, int32_t y, int32_t x,
                              const int8_t *codes)
{
    int32_t sum = 0;
    for (int32_t row = 0; row < p->kernel_height; row++)
        for (int32_t column = 0; column < p->kernel_width; column++, codes++) {
            const int32_t in_y = y + row * p->dilation_y, in_x = x + column * p->dilation_x;
            const int is_inside = in_y >= 0 && in_y < p->in_height && in_x >= 0 && in_x < p->in_width;
            sum += *codes * (is_inside ? input[(in_y * p->in_width + in_x) * p->in_channels] : p->in_zero);
        }
    return sum;
}

/* Sums of two windows inside of the image. */
static void haq_inner_sums(const struct haq_product *p, const int8_t *a, const int8_t *b, const int8_t *codes,
                           int32_t *sums)
{
    const int32_t right = p->dilation_x * p->in_channels;
    const int32_t down = p->dilation_y * p->in_width * p->in_channels;
    int32_t first = 0, second = 0;
    for (int32_t row = p->kernel_height; row > 0; row--, a += down, b += down) {
        if (p->kernel_width == 3) {
            const int32_t left_code = codes[0], middle = codes[1], right_code = codes[2];
            first += a[0] * left_code + a[right] * middle + a[2 * right] * right_code;
            second += b[0] * left_code + b[right] * middle + b[2 * right] * right_code;
            codes += 3;
            continue;
        }
        for (int32_t at = 0; at < p->kernel_width * right; at += right, codes++) {
            first += a[at] * *codes;
            second += b[at] * *codes;
        }
    }
    sums[0] = first;
    sums[1] = second;
}

/* Compute a row of a channel: pixels in the middle two at a time, those at the border one by one. */
static void haq_depthwise_row(const struct haq_product *p, int32_t channel, const int8_t *input, int32_t y,
                              const int8_t *codes, int8_t *output)
{
    const int is_inside = y >= 0 && y + (p->kernel_height - 1) * p->dilation_y < p->in_height;
    const int32_t last = p->in_width - (p->kernel_width - 1) * p->dilation_x - 1;
    const int32_t next = p->stride_x * p->in_channels;
    int32_t x = -p->left, pixels;
    for (int32_t left = p->out_width; left > 0; left -= pixels, x += pixels * p->stride_x) {
        int32_t sums[2];
        pixels = left > 1 && is_inside && x >= 0 && x + p->stride_x <= last ? 2 : 1;
        if (pixels == 2) {
            const int8_t *const from = input + (y * p->in_width + x) * p->in_channels;
            haq_inner_sums(p, from, from + next, codes, sums);
        } else
            sums[0] = haq_border_sum(p, input, y, x, codes);
        haq_requantize(p, channel, sums, 1, pixels, output);
        output += pixels * p->out_channels;
    }
}

/* Convolution of each channel with a filter of its own. `scratch` has room for the codes of a filter. */
static void haq_depthwise(const struct haq_product *p, const int8_t *input, int8_t *output, int32_t *scratch)
{
    const int32_t size = p->kernel_height * p->kernel_width;
    int8_t *codes = (int8_t *)scratch;
    for (int32_t channel = 0; channel < p->in_channels; channel++, input++, output++) {
        p->unpack(p->weights, channel * size, size, codes);
        for (int32_t row = 0; row < p->out_height; row++)
            haq_depthwise_row(p, channel, input, row * p->stride_y - p->top, codes,
                              output + row * p->out_width * p->out_channels);
    }
}
