/* Run a network for all inputs, and write its outputs or the codes of all operations. */
#include "haq_harness.h"
#include "net.h"

int main(void)
{
    static int8_t input[@{SYMBOL}_INPUT_SIZE], output[@{SYMBOL}_OUTPUT_SIZE];
    while (haq_read(input, sizeof input) == sizeof input) {
        const int status = @{symbol}_run(input, output);
        if (status != 0)
            return status;
#ifndef HAQ_WITH_TRACE
        haq_write(output, sizeof output);
#endif
    }
    return 0;
}
