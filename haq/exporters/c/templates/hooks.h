/* Hooks of a network that is run for its codes or its instructions. */
#include "haq_harness.h"

#define HAQ_BEGIN(name) haq_section_begin(name);
#define HAQ_END(name) haq_section_end();
#ifdef HAQ_WITH_TRACE
#define HAQ_TRACE(name, codes, count) haq_write(codes, count);
#endif

/* Kernels are compiled as in a network of many layers, not for the one that is measured. */
#define HAQ_KERNEL __attribute__((noipa))
