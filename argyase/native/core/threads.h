// A few threads that wait for work.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace argyase {

// Threads that sleep when they have nothing to do: nothing is lost where cores are shared.
class Threads {
 public:
  explicit Threads(int count);
  ~Threads();
  // Into how many parts the work on so many atoms is worth dividing: waking a thread costs as much as that
  // on 50.
  int parts(int atoms) const { return std::clamp(atoms / 100, 1, static_cast<int>(workers_.size()) + 1); }
  // work(0), ..., work(parts - 1), of which there are no more than threads, at once; returns when all have
  // ended.
  void run(int parts, const std::function<void(int)>& work);

 private:
  void serve(int number);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable start_, end_;
  const std::function<void(int)>* work_ = nullptr;
  int round_ = 0, running_ = 0, parts_ = 0;
  bool stop_ = false;
};

}  // namespace argyase
