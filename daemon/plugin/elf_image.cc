#include "plugin/elf_image.h"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace connectd::plugin {
namespace {

constexpr size_t kMaxProgramHeaders = 256;    // a plugin has about ten
constexpr unsigned char kUniqueBinding = 10;  // STB_GNU_UNIQUE

#if defined(__x86_64__)
constexpr uint16_t kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr uint16_t kMachine = EM_AARCH64;
#elif defined(__riscv)
constexpr uint16_t kMachine = EM_RISCV;
#else
#error "name this processor's ELF machine number here"
#endif

bool is_inside(std::string_view bytes, uint64_t offset, uint64_t length) {
  return offset <= bytes.size() && length <= bytes.size() - offset;
}

template <class Struct>
std::optional<Struct> read_struct(std::string_view bytes, uint64_t offset) {
  if (!is_inside(bytes, offset, sizeof(Struct))) return std::nullopt;
  Struct value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::string_view text_at(std::string_view bytes, uint64_t offset) {
  if (offset >= bytes.size()) return {};
  const std::string_view rest = bytes.substr(offset);
  return rest.substr(0, rest.find('\0'));
}

std::vector<Elf64_Phdr> segments_of(std::string_view bytes) {
  std::vector<Elf64_Phdr> segments;
  const auto header = read_struct<Elf64_Ehdr>(bytes, 0);
  if (!header) return segments;
  for (size_t i = 0; i < header->e_phnum; ++i) {
    const auto segment = read_struct<Elf64_Phdr>(bytes, header->e_phoff + i * sizeof(Elf64_Phdr));
    if (!segment) break;
    segments.push_back(*segment);
  }
  return segments;
}

// Where in the file an address of the loaded image lies.
std::optional<uint64_t> offset_of(const std::vector<Elf64_Phdr>& segments, uint64_t address) {
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type != PT_LOAD || address < segment.p_vaddr) continue;
    const uint64_t within = address - segment.p_vaddr;
    if (within < segment.p_filesz) return segment.p_offset + within;
  }
  return std::nullopt;
}

// Definitions of templates and inline functions of the C++ library, and of what belongs to them.
bool is_of_cpp_library(std::string_view symbol) {
  if (!symbol.starts_with("_Z")) return false;
  symbol.remove_prefix(2);
  // Virtual tables, type information and guards of static variables; qualifiers of a member.
  for (std::string_view kind : {"TV", "TT", "TI", "TS", "GV", "GR"}) {
    if (!symbol.starts_with(kind)) continue;
    symbol.remove_prefix(kind.size());
    break;
  }
  while (symbol.starts_with("Z")) symbol.remove_prefix(1);  // a variable of a function
  if (symbol.starts_with("N")) symbol.remove_prefix(1);
  while (symbol.starts_with("K") || symbol.starts_with("V")) symbol.remove_prefix(1);
  // std::, its usual abbreviations, and the namespaces of its implementation.
  constexpr std::array<std::string_view, 9> kOwn = {"St", "Sa", "Sb",         "Ss",          "Si",
                                                    "So", "Sd", "9__gnu_cxx", "10__cxxabiv1"};
  return std::ranges::any_of(kOwn, [&](std::string_view own) { return symbol.starts_with(own); });
}

bool is_made_by_linker(std::string_view symbol) {
  constexpr std::array<std::string_view, 6> kMade = {
      "_init", "_fini", "_edata", "_end", "__bss_start", "_GLOBAL_OFFSET_TABLE_"};
  return std::ranges::find(kMade, symbol) != kMade.end();
}

bool is_exported(const Elf64_Sym& symbol, std::string_view name) {
  // An absolute one is the name of a version.
  if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx == SHN_ABS || name.empty()) return false;
  const unsigned char visibility = ELF64_ST_VISIBILITY(symbol.st_other);
  if (visibility == STV_HIDDEN || visibility == STV_INTERNAL) return false;
  const unsigned char binding = ELF64_ST_BIND(symbol.st_info);
  if (binding == STB_WEAK || binding == kUniqueBinding) return !is_of_cpp_library(name);
  return binding == STB_GLOBAL;
}

}  // namespace

std::string elf_problem(std::string_view bytes) {
  const auto header = read_struct<Elf64_Ehdr>(bytes, 0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) {
    return "is not a shared object (no ELF header); build it with 'cc -shared -fPIC'";
  }
  if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
      header->e_machine != kMachine) {
    return fmt::format(
        "is built for another processor (ELF machine {}, this one is {}); build it on this kind of "
        "machine",
        header->e_machine, kMachine);
  }
  if (header->e_type != ET_DYN) {
    return "is not a shared object; build it with 'cc -shared -fPIC'";
  }
  if (header->e_phnum > kMaxProgramHeaders || header->e_phentsize != sizeof(Elf64_Phdr)) {
    return "has damaged ELF headers; copy or build it again";
  }
  const std::vector<Elf64_Phdr> segments = segments_of(bytes);
  bool truncated =
      segments.size() < header->e_phnum ||
      (header->e_shoff != 0 &&
       !is_inside(bytes, header->e_shoff, uint64_t{header->e_shnum} * header->e_shentsize));
  for (const Elf64_Phdr& segment : segments) {
    truncated = truncated || !is_inside(bytes, segment.p_offset, segment.p_filesz);
  }
  if (!truncated) return "";
  return fmt::format(
      "is truncated: it has {} bytes, fewer than its headers say; copy or build it again",
      bytes.size());
}

bool uses_origin(std::string_view bytes) {
  const std::vector<Elf64_Phdr> segments = segments_of(bytes);
  auto dynamic = std::ranges::find(segments, uint32_t{PT_DYNAMIC}, &Elf64_Phdr::p_type);
  if (dynamic == segments.end()) return false;
  std::optional<uint64_t> strings;
  std::vector<uint64_t> names;  // offsets in the table of strings
  for (uint64_t at = 0; at + sizeof(Elf64_Dyn) <= dynamic->p_filesz; at += sizeof(Elf64_Dyn)) {
    const auto entry = read_struct<Elf64_Dyn>(bytes, dynamic->p_offset + at);
    if (!entry || entry->d_tag == DT_NULL) break;
    switch (entry->d_tag) {
      case DT_STRTAB:
        strings = offset_of(segments, entry->d_un.d_ptr);
        break;
      case DT_NEEDED:
      case DT_RPATH:
      case DT_RUNPATH:
      case DT_AUXILIARY:
      case DT_FILTER:
      case DT_AUDIT:
      case DT_DEPAUDIT:
        names.push_back(entry->d_un.d_val);
        break;
      default:
        break;
    }
  }
  if (!strings) return false;
  return std::ranges::any_of(names, [&](uint64_t name) {
    if (name >= bytes.size()) return false;
    const std::string_view text = text_at(bytes, *strings + name);
    return text.find("$ORIGIN") != text.npos || text.find("${ORIGIN}") != text.npos;
  });
}

std::vector<std::string> exported_symbols(std::string_view bytes) {
  std::vector<std::string> exported;
  const auto header = read_struct<Elf64_Ehdr>(bytes, 0);
  if (!header || header->e_shentsize != sizeof(Elf64_Shdr)) return exported;
  auto section = [&](uint64_t number) {
    return read_struct<Elf64_Shdr>(bytes, header->e_shoff + number * sizeof(Elf64_Shdr));
  };
  for (uint64_t i = 0; i < header->e_shnum; ++i) {
    const auto symbols = section(i);
    if (!symbols || symbols->sh_type != SHT_DYNSYM || symbols->sh_link >= header->e_shnum) continue;
    const auto strings = section(symbols->sh_link);
    if (!strings) break;
    for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= symbols->sh_size; at += sizeof(Elf64_Sym)) {
      const auto symbol = read_struct<Elf64_Sym>(bytes, symbols->sh_offset + at);
      if (!symbol) break;
      const std::string_view name = text_at(bytes, strings->sh_offset + symbol->st_name);
      if (!is_exported(*symbol, name) || is_made_by_linker(name)) continue;
      if (!name.starts_with("connectd_plugin_v")) exported.emplace_back(name);
    }
    break;
  }
  return exported;
}

}  // namespace connectd::plugin
