/* Instructions of marked sections, from a timer that counts virtual time.
 *
 * The emulator lets 2^7 = 128 ns pass with every instruction, and a tick of the timer (25 MHz) lasts 40 ns: 16 ticks
 * are 5 instructions. A difference of two readings is off by less than a tick, a third of an instruction, so that
 * rounding gives the exact number. What an empty section counts is subtracted.
 */
#include "cortex_m7.h"
#include "haq_harness.h"

struct timer { /* the APB timer of Arm's Cortex-M System Design Kit */
    volatile uint32_t ctrl, value, reload, intstatus;
};
#define TIMER ((struct timer *)0x40000000u)
enum { ENABLE = 1, INTERRUPT_ENABLE = 8, INTERRUPT = 1 };
#define INSTRUCTIONS_PER_16_TICKS 5u

struct section {
    const char *name;
    uint32_t calls;
    uint64_t instructions;
};

static struct section sections[HAQ_MAX_SECTIONS];
static uint32_t count;
static uint32_t overhead;
static struct section *current;

static int is_same(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static struct section *find(const char *name)
{
    for (uint32_t at = 0; at < count; at++)
        if (is_same(sections[at].name, name))
            return &sections[at];
    if (count == HAQ_MAX_SECTIONS)
        haq_finish(HAQ_TOO_MANY, count);
    sections[count].name = name;
    return &sections[count++];
}

void haq_section_begin(const char *name)
{
    if (current)
        haq_finish(HAQ_NESTED, 0);
    current = find(name);
    TIMER->intstatus = INTERRUPT;
    TIMER->value = UINT32_MAX;
}

void haq_section_end(void)
{
    const uint32_t ticks = UINT32_MAX - TIMER->value;
    if (!current)
        haq_finish(HAQ_NESTED, 1);
    if (TIMER->intstatus & INTERRUPT)
        haq_finish(HAQ_TOO_LONG, 0);
    current->calls++;
    current->instructions += (uint32_t)(((uint64_t)ticks * INSTRUCTIONS_PER_16_TICKS + 8u) / 16u) - overhead;
    current = NULL;
}

void haq_sections_enable(void)
{
    TIMER->reload = UINT32_MAX;
    TIMER->ctrl = ENABLE | INTERRUPT_ENABLE; /* no interrupt is taken: the core's interrupt controller is off */
}

void haq_sections_calibrate(void)
{
    overhead = (uint32_t)sections[0].instructions;
    count = 0;
    sections[0] = (struct section){0};
}

void haq_report_sections(int file)
{
    haq_write_file(file, &count, sizeof count);
    for (uint32_t at = 0; at < count; at++) {
        uint32_t length = 0;
        while (sections[at].name[length] != '\0')
            length++;
        haq_write_file(file, &length, sizeof length);
        haq_write_file(file, sections[at].name, length);
        haq_write_file(file, &sections[at].calls, sizeof sections[at].calls);
        haq_write_file(file, &sections[at].instructions, sizeof sections[at].instructions);
    }
}
