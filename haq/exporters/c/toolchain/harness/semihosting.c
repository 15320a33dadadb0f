/* Files of the host through semihosting: a breakpoint that the emulator answers. */
#include "cortex_m7.h"
#include "haq_harness.h"

enum { SYS_OPEN = 0x01, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT = 0x18 };
enum { APPLICATION_EXIT = 0x20026, READ_BINARY = 1, WRITE_BINARY = 5 };

static int input = -1;
static int output = -1;

static uint32_t call(uint32_t operation, uintptr_t argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register uintptr_t r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

int haq_open(const char *path, int mode)
{
    size_t length = 0;
    while (path[length] != '\0')
        length++;
    const uint32_t block[3] = {(uint32_t)(uintptr_t)path, (uint32_t)mode, (uint32_t)length};
    return (int)call(SYS_OPEN, (uintptr_t)block);
}

size_t haq_read_file(int file, void *bytes, size_t count)
{
    const uint32_t block[3] = {(uint32_t)file, (uint32_t)(uintptr_t)bytes, (uint32_t)count};
    return count - call(SYS_READ, (uintptr_t)block); /* the answer is what is missing */
}

int haq_write_file(int file, const void *bytes, size_t count)
{
    const uint32_t block[3] = {(uint32_t)file, (uint32_t)(uintptr_t)bytes, (uint32_t)count};
    return call(SYS_WRITE, (uintptr_t)block) == 0;
}

void haq_stop(void)
{
    for (;;)
        call(SYS_EXIT, APPLICATION_EXIT);
}

size_t haq_read(void *bytes, size_t count)
{
    if (input < 0)
        input = haq_open("input", READ_BINARY);
    return count == 0 ? 0 : haq_read_file(input, bytes, count);
}

void haq_write(const void *bytes, size_t count)
{
    if (output < 0)
        output = haq_open("output", WRITE_BINARY);
    if (count != 0 && !haq_write_file(output, bytes, count))
        haq_finish(HAQ_OUTPUT_FAILED, 0);
}
