#define ARGYASE_ISA avx512
#define ARGYASE_BYTES 64
#include "design_simd.inc"
#include "mtp_simd.inc"
