// What a test may ask the stand-in of Apple's frameworks, and what it may make it do. Plain C.
// Devices come from the environment variable APPLE_SIM_DEVICES, read when the devices are first
// asked for: a comma list of unified, discrete, integrated, removable ("1" means discrete).
#pragma once
#ifdef __cplusplus
extern "C" {
#endif
#define APPLE_SIM_API __attribute__((visibility("default")))

// Violations of the frameworks' contracts, each recorded with a text.
APPLE_SIM_API long apple_sim_violations(void);
APPLE_SIM_API const char* apple_sim_violation(long index);  // valid until they are cleared; or NULL
APPLE_SIM_API void apple_sim_clear_violations(void);

// Live objects of a class (NULL: of all), buffers and textures, their bytes, heaps of temporaries.
APPLE_SIM_API long apple_sim_live(const char* class_name);
APPLE_SIM_API void apple_sim_each_live(void (*visit)(void* context, const char* name, long count),
                                       void* context);
APPLE_SIM_API long apple_sim_live_buffers(void);
APPLE_SIM_API long apple_sim_live_bytes(void);
APPLE_SIM_API long apple_sim_live_heaps(void);
APPLE_SIM_API long apple_sim_missing_pools(void);

// Counters since the last reset: encodes of a class (NULL: of all), blit copies, synchronisations,
// host waits, committed command buffers.
APPLE_SIM_API long apple_sim_encodes(const char* class_name);
APPLE_SIM_API void apple_sim_each_encode(void (*visit)(void* context, const char* name, long count),
                                         void* context);
APPLE_SIM_API long apple_sim_blits(void);
APPLE_SIM_API long apple_sim_synchronizations(void);
APPLE_SIM_API long apple_sim_host_waits(void);
APPLE_SIM_API long apple_sim_commits(void);
APPLE_SIM_API void apple_sim_reset_counters(void);

// Faults. The next command buffer that starts to execute after `skip` others fails with `code` of
// MTLCommandBufferErrorDomain; the encoder whose label is `label` (NULL: the last), or the dispatch
// of the Metal kernel of that name, is the faulted one, and what it and its successors would have
// written stays unwritten.
APPLE_SIM_API void apple_sim_fail_command_buffer(long code, const char* label, long skip);
// While held, committed command buffers do not start to execute.
APPLE_SIM_API void apple_sim_hold(int held);
// The allocation of a buffer after `skip` others gives nil; -1 switches it off.
APPLE_SIM_API void apple_sim_fail_allocation(long skip);
// Every convolution adds this to its outputs: a GPU, or a release of macOS, that computes wrongly.
APPLE_SIM_API void apple_sim_corrupt_convolutions(float error);
// The device goes: observers are told, whatever is committed or executing fails with DeviceRemoved.
APPLE_SIM_API void apple_sim_remove_device(unsigned long index);
APPLE_SIM_API void apple_sim_restore_devices(void);
#ifdef __cplusplus
}
#endif
