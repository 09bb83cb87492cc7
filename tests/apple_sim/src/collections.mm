// Foundation for the stand-in, second half: collections, data, errors, exceptions. Without ARC.
#import <Foundation/Foundation.h>

#include <cstdio>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/objc_rt.h"

namespace apple_sim {
std::string format(NSString* f, va_list ap);  // of NSString's formats
}
using apple_sim::format;

// ---- arrays
@interface NSArray () {
 @public
  std::vector<id> _v;
  unsigned long _mut;
}
@end
@implementation NSArray
- (void)dealloc {
  for (id o : _v) [o release];
  [super dealloc];
}
- (NSUInteger)count {
  return _v.size();
}
- (id)objectAtIndex:(NSUInteger)i {
  if (i >= _v.size())
    [NSException raise:NSRangeException format:@"index %lu beyond bounds %lu", i, _v.size()];
  return _v[i];
}
- (id)objectAtIndexedSubscript:(NSUInteger)i {
  return [self objectAtIndex:i];
}
- (id)firstObject {
  return _v.empty() ? nil : _v.front();
}
- (id)lastObject {
  return _v.empty() ? nil : _v.back();
}
+ (instancetype)array {
  return [[[self alloc] init] autorelease];
}
+ (instancetype)arrayWithObject:(id)o {
  return [self arrayWithObjects:&o count:1];
}
+ (instancetype)arrayWithObjects:(const id[])o count:(NSUInteger)n {
  return [[[self alloc] initWithObjects:o count:n] autorelease];
}
+ (instancetype)arrayWithArray:(NSArray*)a {
  return [[[self alloc] initWithArray:a] autorelease];
}
- (instancetype)initWithObjects:(const id[])o count:(NSUInteger)n {
  for (NSUInteger i = 0; i < n; ++i) {
    if (!o[i])
      [NSException raise:NSInvalidArgumentException format:@"nil object %lu in an array", i];
    _v.push_back([o[i] retain]);
  }
  return self;
}
- (instancetype)initWithArray:(NSArray*)a {
  return [self initWithObjects:a->_v.data() count:a->_v.size()];
}
- (BOOL)containsObject:(id)o {
  for (id x : _v)
    if ([x isEqual:o]) return YES;
  return NO;
}
- (id)copyWithZone:(NSZone*)z {
  (void)z;
  return [[NSArray alloc] initWithArray:self];
}
- (id)mutableCopyWithZone:(NSZone*)z {
  (void)z;
  return [[NSMutableArray alloc] initWithArray:self];
}
- (NSUInteger)countByEnumeratingWithState:(NSFastEnumerationState*)st
                                  objects:(id __unsafe_unretained[])buf
                                    count:(NSUInteger)n {
  (void)buf;
  (void)n;
  if (st->state) return 0;
  st->state = 1;
  st->itemsPtr = _v.data();
  st->mutationsPtr = &_mut;
  return _v.size();
}
@end
@implementation NSMutableArray
+ (instancetype)arrayWithCapacity:(NSUInteger)n {
  return [[[self alloc] initWithCapacity:n] autorelease];
}
- (instancetype)initWithCapacity:(NSUInteger)n {
  _v.reserve(n);
  return self;
}
- (void)addObject:(id)o {
  [self insertObject:o atIndex:_v.size()];
}
- (void)insertObject:(id)o atIndex:(NSUInteger)i {
  if (!o) [NSException raise:NSInvalidArgumentException format:@"nil object added to an array"];
  if (i > _v.size())
    [NSException raise:NSRangeException format:@"index %lu beyond bounds %lu", i, _v.size()];
  _v.insert(_v.begin() + (long)i, [o retain]);
  ++_mut;
}
- (void)replaceObjectAtIndex:(NSUInteger)i withObject:(id)o {
  if (i == _v.size()) {
    [self addObject:o];
    return;
  }
  [o retain];
  [[self objectAtIndex:i] release];
  _v[i] = o;
  ++_mut;
}
- (void)setObject:(id)o atIndexedSubscript:(NSUInteger)i {
  [self replaceObjectAtIndex:i withObject:o];
}
- (void)removeObjectAtIndex:(NSUInteger)i {
  [[self objectAtIndex:i] release];
  _v.erase(_v.begin() + (long)i);
  ++_mut;
}
- (void)removeLastObject {
  [self removeObjectAtIndex:_v.size() - 1];
}
- (void)removeAllObjects {
  for (id o : _v) [o release];
  _v.clear();
  ++_mut;
}
@end

// ---- dictionaries
namespace {
struct Hash {
  size_t operator()(id o) const { return [o hash]; }
};
struct Eq {
  bool operator()(id a, id b) const { return [a isEqual:b]; }
};
}  // namespace
@implementation NSDictionary {
  std::unordered_map<id, id, Hash, Eq> _m;
  std::vector<id> _keys;
  unsigned long _mut;
}
- (void)dealloc {
  _keys.clear();
  for (auto& [k, v] : _m) {
    [v release];
  }
  auto m = std::move(_m);
  for (auto& [k, v] : m) [k release];
  [super dealloc];
}
- (NSUInteger)count {
  return _m.size();
}
- (id)objectForKey:(id)k {
  auto it = _m.find(k);
  return it == _m.end() ? nil : it->second;
}
- (id)objectForKeyedSubscript:(id)k {
  return [self objectForKey:k];
}
+ (instancetype)dictionary {
  return [[[self alloc] init] autorelease];
}
+ (instancetype)dictionaryWithObjects:(const id[])o
                              forKeys:(const id<NSCopying>[])k
                                count:(NSUInteger)n {
  NSDictionary* d = [[[self alloc] init] autorelease];
  for (NSUInteger i = 0; i < n; ++i) {
    id key = [(id)k[i] copy];
    if (d->_m.emplace(key, [o[i] retain]).second)
      d->_keys.push_back(key);
    else {
      [key release];
      [o[i] release];
    }
  }
  return d;
}
- (id)copyWithZone:(NSZone*)z {
  (void)z;
  return [self retain];
}
- (NSUInteger)countByEnumeratingWithState:(NSFastEnumerationState*)st
                                  objects:(id __unsafe_unretained[])buf
                                    count:(NSUInteger)n {
  (void)buf;
  (void)n;
  if (st->state) return 0;
  st->state = 1;
  st->itemsPtr = _keys.data();
  st->mutationsPtr = &_mut;
  return _keys.size();
}
@end

// ---- what @[] and @{} load
extern "C" {
RT_HIDDEN id __NSArray0__;
RT_HIDDEN id __NSDictionary0__;
__attribute__((constructor(110))) static void make_empty_collections() {
  __NSArray0__ = [[NSArray alloc] init];
  __NSDictionary0__ = [[NSDictionary alloc] init];
}
}

// ---- data, errors, exceptions, pools
@interface NSData () {
 @public
  std::vector<unsigned char> _b;
}
@end
@implementation NSData
- (NSUInteger)length {
  return _b.size();
}
- (const void*)bytes {
  return _b.data();
}
+ (instancetype)dataWithBytes:(const void*)b length:(NSUInteger)n {
  return [[[self alloc] initWithBytes:b length:n] autorelease];
}
- (instancetype)initWithBytes:(const void*)b length:(NSUInteger)n {
  const auto* p = static_cast<const unsigned char*>(b);
  _b.assign(p, p + n);
  return self;
}
- (id)copyWithZone:(NSZone*)z {
  (void)z;
  return [self retain];
}
@end
@implementation NSMutableData
+ (instancetype)dataWithLength:(NSUInteger)n {
  return [[[self alloc] initWithLength:n] autorelease];
}
- (instancetype)initWithLength:(NSUInteger)n {
  _b.assign(n, 0);
  return self;
}
- (void*)mutableBytes {
  return _b.data();
}
@end
@implementation NSError
- (void)dealloc {
  [_domain release];
  [_userInfo release];
  [super dealloc];
}
+ (instancetype)errorWithDomain:(NSErrorDomain)d code:(NSInteger)c userInfo:(NSDictionary*)u {
  NSError* e = [[[self alloc] init] autorelease];
  e->_domain = [d copy];
  e->_code = c;
  e->_userInfo = [u copy];
  return e;
}
- (NSString*)localizedDescription {
  NSString* s = _userInfo[NSLocalizedDescriptionKey];
  return s ? s : [NSString stringWithFormat:@"%@ error %ld", _domain, _code];
}
- (NSString*)description {
  return self.localizedDescription;
}
- (id)copyWithZone:(NSZone*)z {
  (void)z;
  return [self retain];
}
@end
@implementation NSException
- (void)dealloc {
  [_name release];
  [_reason release];
  [_userInfo release];
  [super dealloc];
}
+ (NSException*)exceptionWithName:(NSExceptionName)n reason:(NSString*)r userInfo:(NSDictionary*)u {
  NSException* e = [[[self alloc] init] autorelease];
  e->_name = [n copy];
  e->_reason = [r copy];
  e->_userInfo = [u copy];
  return e;
}
+ (void)raise:(NSExceptionName)n format:(NSString*)f, ... {
  va_list ap;
  va_start(ap, f);
  std::string s = format(f, ap);
  va_end(ap);
  @throw [self exceptionWithName:n reason:[NSString stringWithUTF8String:s.c_str()] userInfo:nil];
}
- (void)raise {
  @throw self;
}
- (NSString*)description {
  return [NSString stringWithFormat:@"%@: %@", _name, _reason];
}
- (id)copyWithZone:(NSZone*)z {
  (void)z;
  return [self retain];
}
@end
@implementation NSAutoreleasePool {
  void* _token;
}
- (instancetype)init {
  if ((self = [super init])) _token = objc_autoreleasePoolPush();
  return self;
}
- (void)drain {
  [self release];
}
- (void)dealloc {
  objc_autoreleasePoolPop(_token);
  [super dealloc];
}
@end
extern "C" NSString* NSStringFromSelector(SEL s) {
  return [NSString stringWithUTF8String:sel_getName(s)];
}
extern "C" NSString* NSStringFromClass(Class c) {
  return [NSString stringWithUTF8String:class_getName(c)];
}
extern "C" void NSLog(NSString* f, ...) {
  va_list ap;
  va_start(ap, f);
  std::string s = format(f, ap);
  va_end(ap);
  std::fprintf(stderr, "%s\n", s.c_str());
}
