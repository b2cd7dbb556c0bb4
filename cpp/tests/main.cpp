// native_tests DIGESTS [--write] [GROUP or PREFIX...]
//
// Runs every program of a group or whose name starts with a prefix (all without one) on every table this machine can
// use, and compares what they record with the plain table and, as digests, with the file, which is the same for all
// platforms: x86 and ARM must compute the same bits. --write makes the file anew. Names are in digests.txt.
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <map>

#include "base/threads.h"
#include "support.h"
#include "targets/dispatch.h"

namespace loqal::tests {
namespace {

struct Options {
  std::string file;
  bool write = false;
  std::vector<std::string> wanted;

  bool wants(const std::string& group, const std::string& name) const {
    for (const std::string& one : wanted)
      if (one == group || name.compare(0, one.size(), one) == 0) return true;
    return wanted.empty();
  }
};

// Each is a file and a test of ctest, see CMakeLists.txt.
struct Group {
  const char* name;
  std::vector<Program> (*programs)();
};
constexpr Group kGroups[] = {
    {"pool", pool_programs},     {"memory", memory_programs},   {"row", row_programs},
    {"panel", panel_programs},   {"mixer", mixer_programs},     {"cpu", cpu_programs},
    {"vision", vision_programs}, {"decoder", decoder_programs}, {"encode", encode_programs},
};

std::vector<Program> wanted_programs(const Options& options) {
  std::vector<Program> wanted;
  for (const Group& group : kGroups)
    for (Program& program : group.programs())
      if (options.wants(group.name, program.name)) wanted.push_back(std::move(program));
  return wanted;
}

std::map<std::string, std::string> read_digests(const std::string& file) {
  std::map<std::string, std::string> digests;
  std::ifstream in(file);
  std::string name, digest;
  while (in >> name >> digest) digests[name] = digest;
  return digests;
}

// What the program records on one table. Kernels run as they do in a pool, where denormals count as zero.
Record run(const Program& program, const KernelTable& table) {
  Record record;
  ThreadPool(1).run(1, [&](int64_t, int) { program.run(table, program.argument, record); });
  return record;
}

int test(const Options& options) {
  const std::vector<const KernelTable*>& tables = usable_tables();
  const std::map<std::string, std::string> known = read_digests(options.file);
  std::map<std::string, std::string> found;
  const std::vector<Program> programs = wanted_programs(options);
  for (const Program& program : programs) {
    const Record plain = run(program, *tables.back());
    if (plain.bytes().empty()) continue;
    for (size_t i = 0; i + 1 < tables.size(); ++i)
      expect_same(run(program, *tables[i]).bytes(), plain.bytes(),
                  program.name + ": " + tables[i]->name + " differs from plain");
    char digest[17];
    std::snprintf(digest, sizeof digest, "%016" PRIx64, plain.digest());
    found[program.name] = digest;
    const auto at = known.find(program.name);
    if (!options.write)
      expect(at != known.end() && at->second == digest, program.name + ": not the digest of " + options.file);
  }
  expect(denormals_count(), "pool: the caller's own floating-point settings did not come back");
  if (options.write) {
    std::ofstream out(options.file);
    for (const auto& [name, digest] : found) out << name << ' ' << digest << '\n';
  }
  std::printf("%d programs, %d digests, on", static_cast<int>(programs.size()), static_cast<int>(found.size()));
  for (const KernelTable* table : tables) std::printf(" %s", table->name);
  expect(!programs.empty(), "no program has such a name");
  std::printf(": %s\n", failures() ? "FAILED" : "the same bits");
  return failures() ? 1 : 0;
}

}  // namespace
}  // namespace loqal::tests

int main(int argc, char** argv) {
  loqal::tests::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--write") options.write = true;
    else if (options.file.empty()) options.file = argument;
    else options.wanted.push_back(argument);
  }
  if (options.file.empty()) {
    std::fprintf(stderr, "usage: native_tests DIGESTS [--write] [GROUP or PREFIX...]\n");
    return 2;
  }
  return loqal::tests::test(options);
}
