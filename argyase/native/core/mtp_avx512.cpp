#define ARGYASE_ISA avx512
#define ARGYASE_BYTES 64
#include "mtp_simd.inc"
#include "design_simd.inc"
