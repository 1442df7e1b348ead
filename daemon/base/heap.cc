#include "base/heap.h"

#include <malloc.h>

namespace connectd {

void return_free_memory() { malloc_trim(0); }

}  // namespace connectd
