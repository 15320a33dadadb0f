/* Start of a program on the emulated Cortex-M7, and its end: vectors, memory, stack, report. */
#include "cortex_m7.h"
#include "haq_harness.h"

/* From the linker script. The stack lies below all other memory, so that an overflow is a fault. */
extern uint32_t haq_data_load[], haq_data_start[], haq_data_end[], haq_bss_start[], haq_bss_end[];
extern uint32_t haq_stack_start[], haq_stack_end[];

int main(void);
void haq_reset(void);
void haq_fault(void);
void haq_start(void);
void haq_report_fault(const uint32_t *frame);

#define PAINT 0xA5A5A5A5u
#define COPROCESSOR_ACCESS (*(volatile uint32_t *)0xE000ED88u)
#define FULL_ACCESS_TO_FPU (0xFu << 20)
#define EXCEPTIONS 16

struct mpu { /* the memory protection unit, from its control register on */
    volatile uint32_t control, number, base, attributes;
};
#define MPU ((struct mpu *)0xE000ED94u)
#define MPU_ENABLED_OVER_DEFAULT_MAP 5u
#define REGION(access, log2_bytes) ((access) << 24 | ((log2_bytes)-1u) << 1 | 1u)
#define NO_ACCESS 0u
#define READ_ONLY 6u
enum { WRITE_BINARY = 5 };

__attribute__((section(".vectors"), used)) static const uintptr_t vectors[EXCEPTIONS] = {
    (uintptr_t)haq_stack_end,  (uintptr_t)haq_reset, (uintptr_t)haq_fault, (uintptr_t)haq_fault, (uintptr_t)haq_fault,
    (uintptr_t)haq_fault, (uintptr_t)haq_fault,
};

static void prepare_memory(void)
{
    const uint32_t *from = haq_data_load;
    for (volatile uint32_t *to = haq_data_start; to < haq_data_end; to++)
        *to = *from++;
    for (volatile uint32_t *to = haq_bss_start; to < haq_bss_end; to++)
        *to = 0;
}

static void paint_stack(void)
{
    uint32_t *top;
    __asm__ volatile("mov %0, sp" : "=r"(top));
    for (volatile uint32_t *to = haq_stack_start; to < top; to++)
        *to = PAINT;
}

static uint32_t stack_bytes(void)
{
    const volatile uint32_t *at = haq_stack_start;
    while (at < haq_stack_end && *at == PAINT)
        at++;
    return (uint32_t)((uintptr_t)haq_stack_end - (uintptr_t)at);
}

void haq_finish(enum haq_end end, uint32_t detail)
{
    const int file = haq_open("report", WRITE_BINARY);
    const uint32_t words[3] = {(uint32_t)end, detail, stack_bytes()};
    haq_write_file(file, words, sizeof words);
    haq_report_sections(file);
    haq_stop();
}

/* In another file than the sections, so that the compiler makes the same calls here as in a program. */
static void calibrate_sections(void)
{
    haq_sections_enable();
    haq_section_begin("");
    haq_section_end();
    haq_sections_calibrate();
}

/* The board ignores writes outside of its memory, and its flash is writable: make faults of both. */
static void protect_memory(void)
{
    MPU->number = 0;
    MPU->base = 0x1F000000u; /* the 16 MiB below the stack */
    MPU->attributes = REGION(NO_ACCESS, 24u);
    MPU->number = 1;
    MPU->base = 0x00000000u; /* 4 MiB of flash */
    MPU->attributes = REGION(READ_ONLY, 22u);
    MPU->control = MPU_ENABLED_OVER_DEFAULT_MAP;
    __asm__ volatile("dsb\n\tisb");
}

void haq_start(void)
{
    COPROCESSOR_ACCESS |= FULL_ACCESS_TO_FPU;
    __asm__ volatile("dsb\n\tisb");
    prepare_memory();
    protect_memory();
    calibrate_sections();
    haq_write("", 0); /* there is an output, even if it stays empty */
    paint_stack();
    haq_finish(HAQ_RETURNED, (uint32_t)main());
}

__attribute__((naked)) void haq_reset(void) { __asm__ volatile("b haq_start"); }

__attribute__((used)) void haq_report_fault(const uint32_t *frame)
{
    const int is_in_memory = frame >= haq_stack_start && frame + 8 <= haq_stack_end;
    haq_finish(HAQ_FAULT, is_in_memory ? frame[6] : 0);
}

/* The stack may be used up: the report is written on a fresh one. */
__attribute__((naked)) void haq_fault(void)
{
    __asm__ volatile("mov r0, sp\n\tldr r1, =haq_stack_end\n\tmov sp, r1\n\tb haq_report_fault");
}
