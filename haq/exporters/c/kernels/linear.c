/* Multiply a vector with four filters. */
static void haq_four_filters(const int8_t *input, const int8_t *codes, int32_t count, int32_t *sums)
{
    int32_t first = 0, second = 0, third = 0, fourth = 0;
#define HAQ_STEP(at)                                                                                                   \
    first += input[at] * codes[4 * (at)];                                                                              \
    second += input[at] * codes[4 * (at) + 1];                                                                         \
    third += input[at] * codes[4 * (at) + 2];                                                                          \
    fourth += input[at] * codes[4 * (at) + 3];
    for (; count >= 4; count -= 4, input += 4, codes += 16) {
        HAQ_STEP(0) HAQ_STEP(1) HAQ_STEP(2) HAQ_STEP(3)
    }
    for (; count > 0; count--, input++, codes += 4) {
        HAQ_STEP(0)
    }
#undef HAQ_STEP
    sums[0] = first;
    sums[1] = second;
    sums[2] = third;
    sums[3] = fourth;
}

/* Product of a vector with a matrix. `scratch` has room for the codes of a block of filters. */
HAQ_KERNEL static void haq_linear(const struct haq_product *p, const int8_t *input, int8_t *output, int32_t *scratch)
{
    const int32_t size = p->in_channels;
    int32_t filters;
    for (int32_t filter = 0; filter < p->out_channels; filter += filters) {
        int32_t sums[4] = {0, 0, 0, 0};
        const int8_t *codes = (const int8_t *)p->weights + filter * size;
        filters = p->out_channels - filter < 4 ? 1 : 4;
        if (p->unpack) {
            p->unpack(p->weights, filter * size, filters * size, (int8_t *)scratch);
            codes = (const int8_t *)scratch;
        }
        if (filters == 4)
            haq_four_filters(input, codes, size, sums);
        else
            for (int32_t at = 0; at < size; at++)
                sums[0] += input[at] * codes[at];
        haq_requantize(p, filter, 1, sums, filters, output + filter, 1);
    }
}
