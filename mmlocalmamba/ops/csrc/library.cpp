// The exported functions: what Python sees.
#include <exception>
#include <new>
#include <string>

#include "call.h"
#include "instruction_sets.h"
#include "interface.h"
#include "threads.h"

#if !defined(MMLOCALMAMBA_SOURCES)
#define MMLOCALMAMBA_SOURCES ""
#endif

namespace mmlocalmamba {
namespace {

const char* keep(const std::string& text) {
  static thread_local std::string kept;
  kept = text;
  return kept.c_str();
}

// Null if work succeeds, else what went wrong: no exception may reach C.
template <class Function>
const char* guarded(const char* name, const Function& work) noexcept {
  try {
    try {
      work();
      return nullptr;
    } catch (const Error& error) {
      return keep(error.message);
    } catch (const std::bad_alloc&) {
      return keep(std::string(name) + ": out of memory");
    } catch (const std::exception& error) {
      return keep(std::string(name) + ": " + error.what());
    }
  } catch (...) {
    return "mmlocalmamba: unknown error, or out of memory for its message";
  }
}

std::string quoted(std::string_view text) { return "\"" + std::string(text) + "\""; }

// [make(item), ...] of those items that have something to say.
template <class Items, class Make>
std::string list_of(const Items& items, const Make& make) {
  std::string text;
  for (const auto& item : items) {
    const std::string word = make(item);
    if (!word.empty()) text += (text.empty() ? "" : ", ") + word;
  }
  return "[" + text + "]";
}

std::string description_of(const Signature& signature) {
  using Name = Signature::Name;
  const auto names_if = [&](bool (*wanted)(const Name&)) {
    return list_of(signature.tensors, [&](const Name& tensor) { return wanted(tensor) ? quoted(tensor.name) : ""; });
  };
  return quoted(signature.function) + ": {\"tensors\": " + names_if([](const Name&) { return true; }) +
         ", \"optional\": " + names_if([](const Name& tensor) { return tensor.optional; }) +
         ", \"outputs\": " + names_if([](const Name& tensor) { return tensor.output; }) +
         ", \"numbers\": " + list_of(signature.numbers, [](std::string_view number) { return quoted(number); }) + "}";
}

std::string description() {
  std::string functions;
#define MMLOCALMAMBA_DESCRIBE(name, arguments) \
  functions += (functions.empty() ? "" : ", ") + description_of(Signature(#name, arguments));
  MMLOCALMAMBA_FUNCTIONS(MMLOCALMAMBA_DESCRIBE)
#undef MMLOCALMAMBA_DESCRIBE
  return std::string("{\"interface\": 1, \"sources\": ") + quoted(MMLOCALMAMBA_SOURCES) +
         ", \"chunk\": " + std::to_string(kChunk) + ", \"functions\": {" + functions + "}}";
}

std::string names_of_instruction_sets() {
  std::string names;
  for (const Kernels* kernels : usable_kernels()) names += (names.empty() ? "" : " ") + std::string(kernels->name);
  return names;
}

}  // namespace
}  // namespace mmlocalmamba

#define MMLOCALMAMBA_DEFINE(name, arguments)                                                       \
  const char* mmlocalmamba_##name(const Tensor* tensors, const double* numbers, int64_t threads) { \
    return mmlocalmamba::guarded(#name, [&] {                                                      \
      static const mmlocalmamba::Signature signature(#name, arguments);                            \
      mmlocalmamba::name(mmlocalmamba::Call(signature, tensors, numbers, threads));                \
    });                                                                                            \
  }
MMLOCALMAMBA_FUNCTIONS(MMLOCALMAMBA_DEFINE)
#undef MMLOCALMAMBA_DEFINE

const char* mmlocalmamba_describe(void) {
  static const std::string text = mmlocalmamba::description();
  return text.c_str();
}

const char* mmlocalmamba_instruction_sets(void) {
  static const std::string names = mmlocalmamba::names_of_instruction_sets();
  return names.c_str();
}

const char* mmlocalmamba_use_instruction_set(const char* name) {
  return mmlocalmamba::guarded("use_instruction_set", [&] {
    for (const mmlocalmamba::Kernels* kernels : mmlocalmamba::usable_kernels())
      if (std::string(name) == kernels->name) return mmlocalmamba::choose_kernels(*kernels);
    throw mmlocalmamba::Error{"this processor has no instruction set " + std::string(name) + ", only " +
                              mmlocalmamba::names_of_instruction_sets()};
  });
}

const char* mmlocalmamba_set_runtime(const char* kind, void* fork, void* push_num_threads, void* thread_id,
                                     void* in_parallel, void* thread_num, void* num_threads) {
  return mmlocalmamba::guarded("set_runtime", [&] {
    using mmlocalmamba::Runtime;
    const std::string name(kind);
    if (name != "gomp" && name != "kmp") throw mmlocalmamba::Error{"unknown kind of OpenMP runtime: " + name};
    const bool kmp = name == "kmp";
    if (!fork || !in_parallel || !thread_num || !num_threads || (kmp && (!push_num_threads || !thread_id)))
      throw mmlocalmamba::Error{"the OpenMP runtime lacks a function: see interface.h"};
    mmlocalmamba::set_runtime({kmp ? Runtime::kKmp : Runtime::kGomp, fork, push_num_threads, thread_id, in_parallel,
                               thread_num, num_threads});
  });
}
