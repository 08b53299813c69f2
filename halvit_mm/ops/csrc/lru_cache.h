// A bounded map; the entry used longest ago makes room. Safe for threads.
#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <mutex>
#include <utility>

namespace halvit {

template <typename Key, typename Value>
class LruCache {
 public:
  explicit LruCache(size_t limit) : limit_(limit) {}

  // Copies out the value; false if there is none.
  bool find(const Key& key, Value& value) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = index_.find(key);
    if (found == index_.end()) return false;
    entries_.splice(entries_.begin(), entries_, found->second);
    value = found->second->second;
    return true;
  }

  void add(const Key& key, Value value) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (index_.count(key)) return;  // another thread was quicker
    entries_.emplace_front(key, std::move(value));
    index_[key] = entries_.begin();
    if (entries_.size() <= limit_) return;
    index_.erase(entries_.back().first);
    entries_.pop_back();
  }

 private:
  using Entry = std::pair<Key, Value>;
  const size_t limit_;
  std::mutex mutex_;
  std::list<Entry> entries_;
  std::map<Key, typename std::list<Entry>::iterator> index_;
};

}  // namespace halvit
