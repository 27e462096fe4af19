// The kernels in the instructions that every processor of this architecture has.
#include "headers.h"

#define SIMD_NAMESPACE baseline
#define SIMD_TABLE kBaseline
#define SIMD_NAME "baseline"
#define SIMD_WIDTH 4
#define SIMD_STATES 4
#include "kernels.h"
