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

static int32_t haq_inner_sum(const struct haq_product *p, const int8_t *input, const int8_t *codes)
{
    const int32_t right = p->dilation_x * p->in_channels;
    const int32_t down = p->dilation_y * p->in_width * p->in_channels;
    int32_t sum = 0;
    if (p->kernel_width == 3) {
        for (int32_t row = 0; row < p->kernel_height; row++, input += down, codes += 3)
            sum += input[0] * codes[0] + input[right] * codes[1] + input[2 * right] * codes[2];
        return sum;
    }
    for (int32_t row = 0; row < p->kernel_height; row++, input += down)
        for (int32_t column = 0; column < p->kernel_width; column++)
            sum += input[column * right] * *codes++;
    return sum;
}

/* Convolution of each channel with a filter of its own. `scratch` has room for the codes of a filter. */
static void haq_depthwise(const struct haq_product *p, const int8_t *input, int8_t *output, int32_t *scratch)
{
    const int32_t size = p->kernel_height * p->kernel_width;
    int8_t *codes = (int8_t *)scratch;
    for (int32_t channel = 0; channel < p->in_channels; channel++, input++) {
        int8_t *to = output + channel;
        p->unpack(p->weights, channel * size, size, codes);
        for (int32_t out_y = 0; out_y < p->out_height; out_y++) {
            const int32_t y = out_y * p->stride_y - p->top;
            const int is_inside = y >= 0 && y + (p->kernel_height - 1) * p->dilation_y < p->in_height;
            for (int32_t out_x = 0; out_x < p->out_width; out_x++, to += p->out_channels) {
                const int32_t x = out_x * p->stride_x - p->left;
                if (is_inside && x >= 0 && x + (p->kernel_width - 1) * p->dilation_x < p->in_width)
                    *to = haq_requantize(
                        p, channel, haq_inner_sum(p, input + (y * p->in_width + x) * p->in_channels, codes));
                else
                    *to = haq_requantize(p, channel, haq_border_sum(p, input, y, x, codes));
            }
        }
    }
}
