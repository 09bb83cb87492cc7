// The part of Foundation that this project uses, declared for the software stand-in (tests on Linux
// only).
#pragma once
#include <math.h>
#include <objc/objc.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef long NSInteger;
typedef unsigned long NSUInteger;
typedef double NSTimeInterval;
typedef double CFTimeInterval;
typedef float vector_float2 __attribute__((ext_vector_type(2)));
typedef struct _NSZone NSZone;
typedef struct _NSRange {
  NSUInteger location, length;
} NSRange;
static inline NSRange NSMakeRange(NSUInteger l, NSUInteger n) {
  NSRange r = {l, n};
  return r;
}
enum { NSNotFound = 0x7fffffffffffffffL };
#define NSIntegerMax 0x7fffffffffffffffL
#define NSIntegerMin (-NSIntegerMax - 1L)
#define NSUIntegerMax (~0ul)
#define NS_ENUM(type, name) \
  enum name : type name;    \
  enum name : type
#define NS_OPTIONS(type, name) \
  type name;                   \
  enum : name  // as the SDK does it for C++: flags must combine with |
#define NS_ASSUME_NONNULL_BEGIN _Pragma("clang assume_nonnull begin")
#define NS_ASSUME_NONNULL_END _Pragma("clang assume_nonnull end")
#define NS_UNAVAILABLE __attribute__((unavailable))
#define NS_RETURNS_INNER_POINTER __attribute__((objc_returns_inner_pointer))
#define NS_DESIGNATED_INITIALIZER __attribute__((objc_designated_initializer))
#define NS_RETURNS_RETAINED __attribute__((ns_returns_retained))
#define NS_FORMAT_FUNCTION(a, b) __attribute__((format(__NSString__, a, b)))
#ifdef __cplusplus
#define APPLE_SIM_EXTERN extern "C"
#else
#define APPLE_SIM_EXTERN extern
#endif
#define NS_AUTOMATED_REFCOUNT_UNAVAILABLE
#if __has_feature(objc_arc)
#undef NS_AUTOMATED_REFCOUNT_UNAVAILABLE
#define NS_AUTOMATED_REFCOUNT_UNAVAILABLE __attribute__((unavailable("not available under ARC")))
#endif

NS_ASSUME_NONNULL_BEGIN
@class NSString, NSArray<ObjectType>, NSDictionary<K, V>, NSNumber, NSError, Protocol;

@protocol NSObject
- (BOOL)isEqual:(nullable id)o;
@property (readonly) NSUInteger hash;
- (Class)class;
@property (readonly, nullable) Class superclass;
- (instancetype)self;
- (BOOL)isKindOfClass:(Class)c;
- (BOOL)isMemberOfClass:(Class)c;
- (BOOL)conformsToProtocol:(Protocol*)p;
- (BOOL)respondsToSelector:(SEL)s;
- (instancetype)retain NS_AUTOMATED_REFCOUNT_UNAVAILABLE;
- (oneway void)release NS_AUTOMATED_REFCOUNT_UNAVAILABLE;
- (instancetype)autorelease NS_AUTOMATED_REFCOUNT_UNAVAILABLE;
- (NSUInteger)retainCount NS_AUTOMATED_REFCOUNT_UNAVAILABLE;
@property (readonly, copy) NSString* description;
@end
@protocol NSCopying
- (id)copyWithZone:(nullable NSZone*)zone;
@end
@protocol NSMutableCopying
- (id)mutableCopyWithZone:(nullable NSZone*)zone;
@end
@class NSCoder;
@protocol NSCoding
- (void)encodeWithCoder:(NSCoder*)coder;
- (nullable instancetype)initWithCoder:(NSCoder*)coder;
@end
@protocol NSSecureCoding <NSCoding>
@property (class, readonly) BOOL supportsSecureCoding;
@end
typedef struct {
  unsigned long state;
  id __unsafe_unretained _Nullable* _Nullable itemsPtr;
  unsigned long* _Nullable mutationsPtr;
  unsigned long extra[5];
} NSFastEnumerationState;
@protocol NSFastEnumeration
- (NSUInteger)countByEnumeratingWithState:(NSFastEnumerationState*)st
                                  objects:(id __unsafe_unretained _Nullable[_Nonnull])buf
                                    count:(NSUInteger)n;
@end

__attribute__((objc_root_class))
@interface NSObject<NSObject> {
  Class isa;
}
+ (void)initialize;
+ (instancetype)alloc;
+ (instancetype)allocWithZone:(nullable NSZone*)z;
+ (instancetype)new;
- (instancetype)init;
- (void)dealloc;
- (id)copy;
- (id)mutableCopy;
+ (Class)class;
+ (nullable Class)superclass;
+ (BOOL)conformsToProtocol:(Protocol*)p;
+ (BOOL)instancesRespondToSelector:(SEL)s;
- (void)doesNotRecognizeSelector:(SEL)s;
- (id)performSelector:(SEL)s;
@end
@interface Protocol : NSObject
@end

@interface NSString : NSObject <NSCopying>
@property (readonly) NSUInteger length;
@property (readonly, nullable) const char* UTF8String NS_RETURNS_INNER_POINTER;
+ (instancetype)string;
+ (nullable instancetype)stringWithUTF8String:(const char*)s;
- (nullable instancetype)initWithUTF8String:(const char*)s;
+ (instancetype)stringWithFormat:(NSString*)f, ... NS_FORMAT_FUNCTION(1, 2);
- (instancetype)initWithFormat:(NSString*)f arguments:(va_list)ap;
- (BOOL)isEqualToString:(NSString*)s;
- (NSString*)stringByAppendingString:(NSString*)s;
@property (readonly) int intValue;
@end
@interface NSValue : NSObject <NSCopying>
@end
@interface NSNumber : NSValue
+ (NSNumber*)numberWithChar:(char)v;
+ (NSNumber*)numberWithInt:(int)v;
+ (NSNumber*)numberWithUnsignedInt:(unsigned)v;
+ (NSNumber*)numberWithLong:(long)v;
+ (NSNumber*)numberWithUnsignedLong:(unsigned long)v;
+ (NSNumber*)numberWithLongLong:(long long)v;
+ (NSNumber*)numberWithUnsignedLongLong:(unsigned long long)v;
+ (NSNumber*)numberWithFloat:(float)v;
+ (NSNumber*)numberWithDouble:(double)v;
+ (NSNumber*)numberWithBool:(BOOL)v;
+ (NSNumber*)numberWithInteger:(NSInteger)v;
+ (NSNumber*)numberWithUnsignedInteger:(NSUInteger)v;
@property (readonly) int intValue;
@property (readonly) float floatValue;
@property (readonly) double doubleValue;
@property (readonly) BOOL boolValue;
@property (readonly) NSInteger integerValue;
@property (readonly) NSUInteger unsignedIntegerValue;
@property (readonly, copy) NSString* stringValue;
@end
@interface NSArray<__covariant ObjectType>
    : NSObject <NSCopying, NSMutableCopying, NSFastEnumeration>
@property (readonly) NSUInteger count;
- (ObjectType)objectAtIndex:(NSUInteger)i;
- (ObjectType)objectAtIndexedSubscript:(NSUInteger)i;
@property (readonly, nullable) ObjectType firstObject;
@property (readonly, nullable) ObjectType lastObject;
+ (instancetype)array;
+ (instancetype)arrayWithObject:(ObjectType)o;
+ (instancetype)arrayWithObjects:(const ObjectType _Nonnull[_Nullable])o count:(NSUInteger)n;
+ (instancetype)arrayWithArray:(NSArray<ObjectType>*)a;
- (instancetype)initWithObjects:(const ObjectType _Nonnull[_Nullable])o count:(NSUInteger)n;
- (instancetype)initWithArray:(NSArray<ObjectType>*)a;
- (BOOL)containsObject:(ObjectType)o;
@end
@interface NSMutableArray<ObjectType> : NSArray <ObjectType>
+ (instancetype)arrayWithCapacity:(NSUInteger)n;
- (instancetype)initWithCapacity:(NSUInteger)n;
- (void)addObject:(ObjectType)o;
- (void)insertObject:(ObjectType)o atIndex:(NSUInteger)i;
- (void)replaceObjectAtIndex:(NSUInteger)i withObject:(ObjectType)o;
- (void)setObject:(ObjectType)o atIndexedSubscript:(NSUInteger)i;
- (void)removeObjectAtIndex:(NSUInteger)i;
- (void)removeLastObject;
- (void)removeAllObjects;
@end
@interface NSDictionary<__covariant KeyType, __covariant ObjectType>
    : NSObject <NSCopying, NSFastEnumeration>
@property (readonly) NSUInteger count;
- (nullable ObjectType)objectForKey:(KeyType)k;
- (nullable ObjectType)objectForKeyedSubscript:(KeyType)k;
+ (instancetype)dictionary;
+ (instancetype)dictionaryWithObjects:(const ObjectType _Nonnull[_Nullable])o
                              forKeys:(const KeyType<NSCopying> _Nonnull[_Nullable])k
                                count:(NSUInteger)n;
@end
@interface NSData : NSObject <NSCopying>
@property (readonly) NSUInteger length;
@property (readonly) const void* bytes NS_RETURNS_INNER_POINTER;
+ (instancetype)dataWithBytes:(nullable const void*)b length:(NSUInteger)n;
- (instancetype)initWithBytes:(nullable const void*)b length:(NSUInteger)n;
@end
@interface NSMutableData : NSData
+ (nullable instancetype)dataWithLength:(NSUInteger)n;
- (nullable instancetype)initWithLength:(NSUInteger)n;
@property (readonly) void* mutableBytes NS_RETURNS_INNER_POINTER;
@end
typedef NSString* NSErrorDomain;
typedef NSString* NSErrorUserInfoKey;
typedef NSString* NSExceptionName;
extern NSErrorUserInfoKey const NSLocalizedDescriptionKey;
extern NSExceptionName const NSInvalidArgumentException;
extern NSExceptionName const NSRangeException;
@interface NSError : NSObject <NSCopying>
@property (readonly, copy) NSErrorDomain domain;
@property (readonly) NSInteger code;
@property (readonly, copy) NSDictionary<NSErrorUserInfoKey, id>* userInfo;
@property (readonly, copy) NSString* localizedDescription;
+ (instancetype)errorWithDomain:(NSErrorDomain)d
                           code:(NSInteger)c
                       userInfo:(nullable NSDictionary<NSErrorUserInfoKey, id>*)u;
@end
@interface NSException : NSObject <NSCopying>
@property (readonly, copy) NSExceptionName name;
@property (readonly, copy, nullable) NSString* reason;
@property (readonly, copy, nullable) NSDictionary* userInfo;
+ (NSException*)exceptionWithName:(NSExceptionName)n
                           reason:(nullable NSString*)r
                         userInfo:(nullable NSDictionary*)u;
+ (void)raise:(NSExceptionName)n format:(NSString*)f, ... NS_FORMAT_FUNCTION(2, 3);
- (void)raise __attribute__((noreturn));
@end
#if !__has_feature(objc_arc)
@interface NSAutoreleasePool : NSObject
- (void)drain;
@end
#endif
#ifdef __cplusplus
extern "C" {
#endif
NSString* NSStringFromSelector(SEL s);
NSString* NSStringFromClass(Class c);
void NSLog(NSString* f, ...) NS_FORMAT_FUNCTION(1, 2);
#ifdef __cplusplus
}
#endif
NS_ASSUME_NONNULL_END
