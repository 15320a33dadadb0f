/* Add the two fields of 16 bits of a sum. */
static void haq_add_halves(int32_t sum, int32_t *sums)
{
    const int32_t low = (int16_t)(uint16_t)sum;
    sums[0] += low;
    sums[1] += (sum - low) >> 16;
}

/* Multiply two windows with four filters. A product with a word is two products, in fields of 16 bits. */
static void haq_dot_narrow(const struct haq_product *p, const int8_t *a, const int8_t *b, const int32_t *steps,
                           const int32_t *words, int32_t *sums)
{
    const int32_t length = p->row;
    int32_t room = p->period, a0 = 0, a1 = 0, b0 = 0, b1 = 0;
    sums[0] = sums[1] = sums[2] = sums[3] = sums[4] = sums[5] = sums[6] = sums[7] = 0;
    for (int32_t row = p->kernel_height; row > 0; row--, a += steps[0] - length, b += steps[1] - length)
        for (int32_t left = length; left > 0;) {
            const int32_t count = left < room ? left : room;
            left -= count;
            room -= count;
#define HAQ_STEP(at)                                                                                                   \
    a0 += a[at] * words[2 * (at)];                                                                                     \
    a1 += a[at] * words[2 * (at) + 1];                                                                                 \
    b0 += b[at] * words[2 * (at)];                                                                                     \
    b1 += b[at] * words[2 * (at) + 1];
            for (const int8_t *const end = a + (count & ~3); a != end; a += 4, b += 4, words += 8) {
                HAQ_STEP(0) HAQ_STEP(1) HAQ_STEP(2) HAQ_STEP(3)
            }
            for (const int8_t *const end = a + (count & 3); a != end; a++, b++, words += 2) {
                HAQ_STEP(0)
            }
#undef HAQ_STEP
            if (room == 0 || (row == 1 && left == 0)) {
                haq_add_halves(a0, sums);
                haq_add_halves(a1, sums + 2);
                haq_add_halves(b0, sums + 4);
                haq_add_halves(b1, sums + 6);
                a0 = a1 = b0 = b1 = 0;
                room = p->period;
            }
        }
}
