/* Product of a vector with a matrix. `scratch` has room for the codes of a block of filters. */
static void haq_linear(const struct haq_product *p, const int8_t *input, int8_t *output, int32_t *scratch)
{
    const int32_t size = p->in_channels;
    int32_t filters;
    for (int32_t filter = 0; filter < p->out_channels; filter += filters) {
        const int8_t *codes = (const int8_t *)scratch;
        filters = p->out_channels - filter < 4 ? 1 : 4;
        p->unpack(p->weights, filter * size, filters * size, (int8_t *)scratch);
        if (filters == 4) {
            int32_t sums[4] = {0, 0, 0, 0};
            for (int32_t at = 0; at < size; at++, codes += 4) {
                const int32_t code = input[at];
                sums[0] += code * codes[0];
                sums[1] += code * codes[1];
                sums[2] += code * codes[2];
                sums[3] += code * codes[3];
            }
            for (int32_t at = 0; at < 4; at++)
                output[filter + at] = haq_requantize(p, filter + at, sums[at]);
        } else {
            int32_t sum = 0;
            for (int32_t at = 0; at < size; at++)
                sum += input[at] * codes[at];
            output[filter] = haq_requantize(p, filter, sum);
        }
    }
}
