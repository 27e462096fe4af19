// Everything that the kernels include, to be included before the compiler's target is changed: what these headers
// define inline must stay code that every processor runs.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

#include "arguments.h"
