/* Parts of the harness on the emulated Cortex-M7: semihosting and the report that is written when the program ends. */
#ifndef HAQ_CORTEX_M7_H
#define HAQ_CORTEX_M7_H

#include <stddef.h>
#include <stdint.h>

/* How a program ended: the first word of the report. Python reads these numbers too. */
enum haq_end {
    HAQ_RETURNED = 0,       /* main returned; the second word is what it returned */
    HAQ_FAULT = 1,          /* the processor met an error; the second word is the address of the instruction */
    HAQ_NESTED = 2,         /* a section began inside another, or ended outside */
    HAQ_TOO_MANY = 3,       /* more names than HAQ_MAX_SECTIONS */
    HAQ_TOO_LONG = 4,       /* a section took longer than the timer counts */
    HAQ_OUTPUT_FAILED = 5   /* the output could not be written */
};

#define HAQ_MAX_SECTIONS 512u

/* Open files of the host in the current folder; `mode` is an ISO C mode as semihosting numbers them. */
int haq_open(const char *path, int mode);
size_t haq_read_file(int file, void *bytes, size_t count);
int haq_write_file(int file, const void *bytes, size_t count);
void haq_stop(void);

/* Write the report and end the emulation. */
void haq_finish(enum haq_end end, uint32_t detail);

/* Start the timer; take the only section so far as an empty one, whose instructions are subtracted from now on. */
void haq_sections_enable(void);
void haq_sections_calibrate(void);

/* Append the instructions of all sections to the report. */
void haq_report_sections(int file);

#endif
