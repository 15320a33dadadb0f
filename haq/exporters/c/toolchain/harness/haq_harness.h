/* What a program may ask of the machine that runs it: a process of the host or an emulated Cortex-M7.
 *
 * The program brings `int main(void)`, which returns 0. It uses no other input or output.
 */
#ifndef HAQ_HARNESS_H
#define HAQ_HARNESS_H

#include <stddef.h>

/* Read the next bytes of the input; return how many there were. */
size_t haq_read(void *bytes, size_t count);

/* Append bytes to the output. */
void haq_write(const void *bytes, size_t count);

/* Count the instructions from here to the next end, and add them to those of the name. Sections cannot be nested. */
void haq_section_begin(const char *name);
void haq_section_end(void);

#endif
