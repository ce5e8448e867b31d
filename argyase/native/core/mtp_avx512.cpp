#define ARGYASE_ISA avx512
#define ARGYASE_LANES 8
#include "mtp_simd.inc"
