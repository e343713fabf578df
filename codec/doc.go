// Package codec turns what is stored under a key into a Go value and back.
//
// # Model
//
// A [Codec] decodes and encodes one T. [Auto] is what config uses unless told otherwise. It reads what
// people and tools put into etcd: JSON, YAML, and bare scalars.
//
//	etcdctl put app/limits  '{"rps": 100, "timeout": "30s"}'    a struct, as JSON
//	etcdctl put app/limits  < limits.yaml                       a struct, as YAML
//	etcdctl put app/port    8080                                an int
//	etcdctl put app/timeout 30s                                 a time.Duration
//	etcdctl put app/level   info                                a string, or a type with UnmarshalText
//
// [JSON], [YAML] and [TOML] read one format only, [String] takes the text as it is.
//
// YAML and TOML are parsed into a tree that is then decoded as JSON. So json tags serve all formats, as
// do UnmarshalJSON and UnmarshalText; yaml and toml tags are not looked at.
//
// TOML is read only where it is asked for. Auto would have to guess, and wrongly: "[mail]" is a table of
// TOML and a list of YAML, "a = 1" a key and a text.
//
// A time.Duration is a string with a unit in all formats ("30s", "1h30m"), wherever it occurs in T. A
// bare number is refused, except 0: encoding/json would take 30 as 30 nanoseconds, and whoever writes
// it means seconds. Encode writes durations with units, too. Durations behind an interface, as keys of
// a map, tagged ",string" or inside a type with its own UnmarshalJSON are left to encoding/json.
//
// A [Size] is a string with a unit ("64KiB", "10MB"), or a number of bytes. Of other types with an
// UnmarshalText, Auto gives them the bare text of a scalar, a number included; inside of a document
// encoding/json gives them strings only.
//
// # What is promised
//
// Values in etcd are untrusted. Decode refuses, before or while it reads and with bounded time and
// memory: more than [MaxSize] bytes; nesting deeper than [MaxDepth]; text that is not UTF-8 or holds a
// NUL; more than one document, or anything after it; an empty or null document for a T to which that
// means nothing; a key that occurs twice in one object; YAML of more than 40,000 entries, a comment
// counting as four; aliases that expand to too much, or to themselves; and TOML of more than 40,000
// entries, each part of a key, table and array counting as five. On an error it returns the zero T. It
// does not panic unless a method of T does.
//
// An error says where and which rule, and never what was there: values may be secrets, and errors end
// up in logs. It is an [*Error]. Nothing is wrapped but [ErrNotSealed], [ErrUnknownKey] and
// [ErrNotOpened], because the errors of encoding/json, strconv, the parsers and of types that decode
// themselves quote the value.
//
// [Sealed] keeps a value secret in etcd: it is encrypted with a key of a [Keyring] (AES-256-GCM) and bound
// to its path, so that it opens nowhere else. Decode refuses what is not sealed.
//
// What Encode writes, Decode reads, and gets an equal value if T survives encoding/json.
//
// # Limits
//
// Numbers decoded into an interface are float64, as in encoding/json. Names of fields match
// case-insensitively, as there; for the rule on keys that occur twice, keys that differ in case differ.
// A []byte is base64. JSON has no bound on its number of values but its size: what a value costs in
// memory is up to T.
//
// YAML is what go.yaml.in/yaml/v3 reads (1.2, with merge keys), less numbers with a leading zero, which
// one parser reads as octal and the next as decimal, and less tags of one's own. The lines that YAML
// syntax errors name are near the mistake, not on it.
//
// TOML is what github.com/pelletier/go-toml/v2 reads (1.1). A date and time with an offset becomes a
// string as RFC 3339 has it, which a time.Time takes; one without an offset, a date and a time of day
// become the string that they are in TOML ("2026-11-21T09:30:00", "2026-11-21", "09:30:00"), which a
// time.Time does not take. Integers have 64 bits and a sign, floats are float64: a json.Number keeps
// its value and not its digits. An integral float does not pass for an integer. inf and nan are
// refused. Encode writes names in their order, not that of the fields; times as strings; and leaves out
// what is nil in a struct. TOML has no null, no empty document and nothing but tables at its top, so
// that Encode refuses a nil elsewhere, an empty T, and a T that is no struct or map.
package codec
