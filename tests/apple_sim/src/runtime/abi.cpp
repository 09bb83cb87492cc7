// The rest of what clang calls in the Apple ABI: properties, @synchronized, exceptions, blocks.
#include <cxxabi.h>
#include <unwind.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <typeinfo>

#include "objc_rt.h"

#define SEND(r, o, name) reinterpret_cast<r (*)(id, SEL)>(objc_msgSend)(o, name)
namespace {
std::recursive_mutex& sync_mutex() {
  static auto* m = new std::recursive_mutex;
  return *m;
}
}  // namespace

extern "C" {
RT_HIDDEN id objc_retainAutorelease(id o);
// ---- properties, @synchronized, fast enumeration
RT_HIDDEN id objc_getProperty(id self, SEL, ptrdiff_t off, bool) {
  return objc_retainAutorelease(*reinterpret_cast<id*>(reinterpret_cast<char*>(self) + off));
}
static void set_property(id self, id v, ptrdiff_t off, bool copy) {
  static SEL s_copy = sel_registerName("copy");
  id* p = reinterpret_cast<id*>(reinterpret_cast<char*>(self) + off);
  v = copy ? (v ? SEND(id, v, s_copy) : nullptr) : objc_retain(v);
  id old = *p;
  *p = v;
  objc_release(old);
}
RT_HIDDEN void objc_setProperty(id self, SEL, ptrdiff_t off, id v, bool, signed char copy) {
  set_property(self, v, off, copy);
}
RT_HIDDEN void objc_setProperty_atomic(id self, SEL, id v, ptrdiff_t off) {
  set_property(self, v, off, false);
}
RT_HIDDEN void objc_setProperty_nonatomic(id self, SEL, id v, ptrdiff_t off) {
  set_property(self, v, off, false);
}
RT_HIDDEN void objc_setProperty_atomic_copy(id self, SEL, id v, ptrdiff_t off) {
  set_property(self, v, off, true);
}
RT_HIDDEN void objc_setProperty_nonatomic_copy(id self, SEL, id v, ptrdiff_t off) {
  set_property(self, v, off, true);
}
RT_HIDDEN void objc_copyStruct(void* d, const void* s, ptrdiff_t n, bool, bool) {
  std::memmove(d, s, static_cast<size_t>(n));
}
RT_HIDDEN int objc_sync_enter(id) {
  sync_mutex().lock();
  return 0;
}
RT_HIDDEN int objc_sync_exit(id) {
  sync_mutex().unlock();
  return 0;
}
RT_HIDDEN void objc_enumerationMutation(id o) {
  std::fprintf(stderr, "objc runtime: collection %p changed while it was enumerated\n",
               static_cast<void*>(o));
  std::abort();
}
}

// ---- exceptions: an Objective-C exception is a C++ one with a type_info of ours, as on a Mac, so
// both kinds mix freely
struct objc_eh_type : std::type_info {
  Class cls;
  objc_eh_type(const char* n, Class c) : std::type_info(n), cls(c) {}
  ~objc_eh_type() override;
  bool __is_pointer_p() const override { return true; }
  bool __do_catch(const std::type_info* thrown, void** obj, unsigned) const override;
};
objc_eh_type::~objc_eh_type() = default;
extern "C" {
extern objc_eh_type OBJC_EHTYPE_id;
}
bool objc_eh_type::__do_catch(const std::type_info* thrown, void** obj, unsigned) const {
  if (!dynamic_cast<const objc_eh_type*>(thrown)) return false;
  if (this == &OBJC_EHTYPE_id) return true;
  for (Class c = object_getClass(static_cast<id>(*obj)); c; c = class_getSuperclass(c))
    if (c == cls) return true;
  return false;
}
RT_HIDDEN objc_eh_type OBJC_EHTYPE_id("id", nullptr);
__asm__(
    ".globl objc_ehtype_vtable\n .hidden objc_ehtype_vtable\n .set objc_ehtype_vtable, "
    "_ZTV12objc_eh_type\n");
namespace {
struct Thrown {
  id obj;
  objc_eh_type type;
};
}  // namespace
extern "C" {
static void thrown_done(void* p) {
  auto* t = static_cast<Thrown*>(p);
  objc_release(t->obj);
  t->type.~objc_eh_type();
}
RT_HIDDEN void objc_exception_throw(id o) {
  auto* t = static_cast<Thrown*>(abi::__cxa_allocate_exception(sizeof(Thrown)));
  t->obj = objc_retain(o);
  new (&t->type) objc_eh_type(class_getName(object_getClass(o)), object_getClass(o));
  abi::__cxa_throw(t, &t->type, thrown_done);
}
RT_HIDDEN id objc_begin_catch(void* e) { return static_cast<id>(abi::__cxa_begin_catch(e)); }
RT_HIDDEN void objc_end_catch(void) { abi::__cxa_end_catch(); }
RT_HIDDEN void objc_exception_rethrow(void) { abi::__cxa_rethrow(); }
RT_HIDDEN void objc_terminate(void) { std::terminate(); }
_Unwind_Reason_Code __gxx_personality_v0(int, _Unwind_Action, _Unwind_Exception_Class,
                                         _Unwind_Exception*, _Unwind_Context*);
RT_HIDDEN _Unwind_Reason_Code __objc_personality_v0(int v, _Unwind_Action a,
                                                    _Unwind_Exception_Class c, _Unwind_Exception* e,
                                                    _Unwind_Context* x) {
  return __gxx_personality_v0(v, a, c, e, x);
}
}

// ---- blocks (the ABI that clang documents): heap copies are counted, captured objects and blocks
// are held
namespace {
struct Block {
  void* isa;
  std::atomic<int> flags;
  int reserved;
  void (*invoke)(void*, ...);
  struct Desc {
    unsigned long reserved, size;
    void (*copy)(void*, const void*);
    void (*dispose)(const void*);
  }* desc;
};
struct ByRef {
  void* isa;
  ByRef* forwarding;
  std::atomic<int> flags;
  uint32_t size;
  void (*keep)(ByRef*, ByRef*);
  void (*destroy)(ByRef*);
};
enum {
  REFCOUNT = 0xfffe,
  NEEDS_FREE = 1 << 24,
  HAS_COPY = 1 << 25,
  IS_GLOBAL = 1 << 28,
  FIELD_OBJECT = 3,
  FIELD_BLOCK = 7,
  FIELD_BYREF = 8,
  FIELD_WEAK = 16,
  BYREF_CALLER = 128
};
}  // namespace
extern "C" {
extern char OBJC_CLASS_NSMallocBlock[] __asm__("OBJC_CLASS_$_NSMallocBlock") RT_HIDDEN;
RT_HIDDEN void* _Block_copy(const void* arg) {
  auto* b = static_cast<Block*>(const_cast<void*>(arg));
  if (!b) return nullptr;
  const int f = b->flags.load();
  if (f & IS_GLOBAL) return b;
  if (f & NEEDS_FREE) {
    b->flags.fetch_add(2);
    return b;
  }
  auto* n = static_cast<Block*>(std::malloc(b->desc->size));
  std::memcpy(static_cast<void*>(n), b, b->desc->size);
  n->isa = OBJC_CLASS_NSMallocBlock;
  n->flags = (f & ~REFCOUNT) | NEEDS_FREE | 2;
  if (f & HAS_COPY) b->desc->copy(n, b);
  return n;
}
RT_HIDDEN void _Block_release(const void* arg) {
  auto* b = static_cast<Block*>(const_cast<void*>(arg));
  if (!b || !(b->flags.load() & NEEDS_FREE)) return;
  if ((b->flags.fetch_sub(2) & REFCOUNT) != 2) return;
  if (b->flags.load() & HAS_COPY) b->desc->dispose(b);
  std::free(b);
}
RT_HIDDEN void _Block_object_assign(void* dst, const void* obj, int kind) {
  auto** d = static_cast<const void**>(dst);
  if (kind & FIELD_BYREF) {
    auto* s = static_cast<ByRef*>(const_cast<void*>(obj))->forwarding;
    if (!(s->flags.load() & NEEDS_FREE)) {
      auto* c = static_cast<ByRef*>(std::malloc(s->size));
      std::memcpy(static_cast<void*>(c), s, s->size);
      c->flags =
          (s->flags.load() & ~REFCOUNT) | NEEDS_FREE | 4;  // one for the frame, one for the block
      c->forwarding = c;
      s->forwarding = c;
      if (s->flags.load() & HAS_COPY) s->keep(c, s);
      *d = c;
    } else {
      s->flags.fetch_add(2);
      *d = s;
    }
  } else if (kind & BYREF_CALLER)
    *d = obj;
  else if ((kind & 7) == FIELD_BLOCK)
    *d = _Block_copy(obj);
  else
    *d = objc_retain(static_cast<id>(const_cast<void*>(obj)));
}
RT_HIDDEN void _Block_object_dispose(const void* obj, int kind) {
  if (kind & FIELD_BYREF) {
    auto* b = static_cast<ByRef*>(const_cast<void*>(obj))->forwarding;
    if (!(b->flags.load() & NEEDS_FREE)) return;
    if ((b->flags.fetch_sub(2) & REFCOUNT) != 2) return;
    if (b->flags.load() & HAS_COPY) b->destroy(b);
    std::free(b);
  } else if (kind & BYREF_CALLER)
    return;
  else if ((kind & 7) == FIELD_BLOCK)
    _Block_release(obj);
  else
    objc_release(static_cast<id>(const_cast<void*>(obj)));
}
}
