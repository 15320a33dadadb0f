/* Convert sums to codes, and store them at some distance. `filter_step` is 1 for the sums of filters one after the
 * other, 0 for sums of one filter.
 * Exponents may be 0 and more. */
static void haq_requantize(const struct haq_product *p, int32_t filter, int32_t filter_step, const int32_t *sums,
                           int32_t count, int8_t *output, int32_t step)
{
    const int32_t shift = p->shift, zero = p->out_zero, low = p->low, high_code = p->high;
    const int32_t *factors = p->factors + 2 * filter;
    const int8_t *exponents = p->exponents + filter;
    for (; count > 0; count--, sums++, output += step, factors += 2 * filter_step, exponents += filter_step) {
        const int32_t sum = *sums * (INT32_C(1) << shift) + factors[0];
        *output = (int8_t)haq_clip(haq_multiply(sum, factors[1], *exponents) + zero, low, high_code);
    }
}
