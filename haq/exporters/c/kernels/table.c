/* Replace each code by its entry in a table. */
HAQ_KERNEL static void haq_table(const int8_t *table, const int8_t *input, int8_t *output, int32_t count)
{
    for (int32_t at = 0; at < count; at++)
        output[at] = table[input[at] + 128];
}
