// Shared ownership inside one run. A run is on one thread at a time, so the count need not be
// atomic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace tempora::detail {

// Memory of the run in hand, which thereby knows what it holds. Outside a run: uncounted.
void* counted_new(std::size_t size);
void counted_delete(void* memory, std::size_t size) noexcept;

class RefCounted {
 public:
  RefCounted() = default;
  RefCounted(const RefCounted&) = delete;
  RefCounted& operator=(const RefCounted&) = delete;
  virtual ~RefCounted() = default;

  static void* operator new(std::size_t size) { return counted_new(size); }
  static void operator delete(void* memory, std::size_t size) noexcept {
    counted_delete(memory, size);
  }
  // A user's type may ask for more; these are too rare to be counted.
  static void* operator new(std::size_t size, std::align_val_t alignment) {
    return ::operator new(size, alignment);
  }
  static void operator delete(void* memory, std::size_t size, std::align_val_t alignment) noexcept {
    ::operator delete(memory, size, alignment);
  }

  void add_ref() { ++refs_; }
  void release() {
    if (--refs_ == 0) delete this;
  }
  bool unique() const { return refs_ == 1; }

 private:
  std::uint32_t refs_ = 0;
};

template <class T>
class Ref {
 public:
  Ref() = default;
  Ref(T* object)
      : object_(
            object) {  // NOLINT: a raw pointer is a borrowed reference everywhere in the runtime
    if (object_) object_->add_ref();
  }
  Ref(const Ref& other) : Ref(other.object_) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  template <class U>
    requires std::is_convertible_v<U*, T*>
  Ref(const Ref<U>& other) : Ref(other.get()) {}  // NOLINT
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() {
    if (object_) object_->release();
  }

  T* get() const { return object_; }
  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }
  explicit operator bool() const { return object_ != nullptr; }
  bool operator==(const Ref&) const = default;

 private:
  T* object_ = nullptr;
};

template <class T, class... A>
Ref<T> make_ref(A&&... arguments) {
  return Ref<T>{new T(std::forward<A>(arguments)...)};
}

}  // namespace tempora::detail
