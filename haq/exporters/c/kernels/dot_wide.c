/* Add the two fields of a sum, the lower of 23 bits. */
static void haq_add_fields(int64_t sum, int32_t *sums)
{
    const int32_t low = (int32_t)((uint32_t)sum << 9) >> 9;
    sums[0] += low;
    sums[1] += (int32_t)((sum - low) >> 23);
}

/* Multiply two windows with two filters. A product with a word is two products, in one of 64 bits. */
static void haq_dot_pair(const struct haq_product *p, const int8_t *a, const int8_t *b, const int32_t *steps,
                         const int32_t *words, int32_t *sums)
{
    const int32_t length = p->row;
    int32_t room = p->period;
    int64_t a0 = 0, b0 = 0;
    sums[0] = sums[1] = sums[4] = sums[5] = 0;
    for (int32_t row = p->kernel_height; row > 0; row--, a += steps[0] - length, b += steps[1] - length)
        for (int32_t left = length; left > 0;) {
            const int32_t count = left < room ? left : room;
            left -= count;
            room -= count;
#define HAQ_STEP(at)                                                                                                   \
    a0 += (int64_t)a[at] * words[at];                                                                                  \
    b0 += (int64_t)b[at] * words[at];
            for (const int8_t *const end = a + (count & ~7); a != end; a += 8, b += 8, words += 8) {
                HAQ_STEP(0) HAQ_STEP(1) HAQ_STEP(2) HAQ_STEP(3) HAQ_STEP(4) HAQ_STEP(5) HAQ_STEP(6) HAQ_STEP(7)
            }
            for (const int8_t *const end = a + (count & 7); a != end; a++, b++, words++) {
                HAQ_STEP(0)
            }
#undef HAQ_STEP
            if (room == 0 || (row == 1 && left == 0)) {
                haq_add_fields(a0, sums);
                haq_add_fields(b0, sums + 4);
                a0 = b0 = 0;
                room = p->period;
            }
        }
}

/* Multiply two windows with four filters. */
static void haq_dot_wide(const struct haq_product *p, const int8_t *a, const int8_t *b, const int32_t *steps,
                         const int32_t *words, int32_t *sums)
{
    haq_dot_pair(p, a, b, steps, words, sums);
    haq_dot_pair(p, a, b, steps, words + p->kernel_height * p->row, sums + 2);
}
