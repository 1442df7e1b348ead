// The memory of the process.
#pragma once

namespace connectd {

// Gives memory that is free, but kept by the allocator, back to the system. Takes some milliseconds
// when it is a lot; other threads that allocate wait meanwhile.
void return_free_memory();

}  // namespace connectd
