package codec

import (
	"encoding/json"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Size is a number of bytes, written as people write it: "512", "64KiB", "10MB", "1.5GiB".
//
// A text is a decimal number, perhaps with a fraction, and a unit, perhaps behind spaces:
//   - no unit, or B: bytes;
//   - KiB, MiB, GiB, TiB, PiB, EiB: powers of 1024. The B may be left out;
//   - kB, MB, GB, TB, PB, EB: powers of 1000. The B may not be left out: a bare k is 1000 to some
//     programs and 1024 to others.
//
// Case does not matter, except that a small b alone or behind a capital, as in Mb, is refused: it means
// bits. Refused are also negative numbers, more than [math.MaxInt64] bytes, fractions of a byte, exponents,
// and anything that is not finite.
//
// Where a document may have a string with a Size, it may have a bare number as well: a whole number of
// bytes.
//
//	type Limits struct {
//		Body codec.Size `json:"body"` // {"body": "10MiB"} or {"body": 10485760}
//	}
type Size int64

// Units to count with, as in 10 * codec.MiB.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

// sizeUnits is the units but the byte, by their text in small letters.
var sizeUnits = map[string]int64{
	"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40, "pi": 1 << 50, "ei": 1 << 60,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40, "pib": 1 << 50, "eib": 1 << 60,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "pb": 1e15, "eb": 1e18,
}

const (
	ruleSize         = "not a size, as 512, 64KiB or 1.5GB is one"
	ruleSizeUnit     = "a size has a unit that is unknown: it may be B, KiB, MiB, GiB, TiB, PiB, EiB, kB, MB, GB, TB, PB or EB"
	ruleSizeBare     = "k, M, G, T, P and E alone are ambiguous in a size: write KiB for 1024, or kB for 1000"
	ruleSizeBits     = "b alone or behind a capital is bits: a size is in B"
	ruleSizeNegative = "a size cannot be negative"
	ruleSizePart     = "a size that is not a whole number of bytes"
	ruleSizeRange    = "a size of more than 9223372036854775807 bytes"
	ruleSizeNumber   = "a size as a number is a whole number of bytes, without exponent"
)

// ParseSize reads a size; see [Size]. The error is an [*Error], which does not quote text.
func ParseSize(text string) (Size, error) {
	s, rule := parseSize(text)
	if rule != "" {
		return 0, sizeError("decode", rule)
	}
	return s, nil
}

func sizeError(op, rule string) error {
	return &Error{Op: op, Type: sizeType.String(), Format: "text", Rule: rule}
}

// parseSize reads a size, or returns the rule that is broken.
func parseSize(text string) (s Size, rule string) {
	text = strings.Trim(text, " ")
	number, negative := strings.CutPrefix(text, "-")
	end := 0
	for end < len(number) && (isDigit(number[end]) || number[end] == '.') {
		end++
	}
	whole, fraction, point := strings.Cut(number[:end], ".")
	if whole == "" || point && (fraction == "" || strings.Contains(fraction, ".")) {
		return 0, ruleSize
	}
	unit, rule := sizeUnit(strings.TrimLeft(number[end:], " "))
	switch {
	case rule != "":
		return 0, rule
	case negative:
		return 0, ruleSizeNegative
	}

	// In whole numbers, so that every size is what it says: digits of both parts, times the unit, divided
	// by the power of ten that the point stands for.
	const (
		digits = 19 // of math.MaxInt64
		places = 60 // that a whole number of bytes may have, in the largest unit, 2^60
	)
	whole = strings.TrimLeft(whole, "0")
	fraction = strings.TrimRight(fraction, "0")
	switch {
	case len(whole) > digits:
		return 0, ruleSizeRange
	case len(fraction) > places:
		return 0, ruleSizePart
	}
	n, _ := new(big.Int).SetString("0"+whole+fraction, 10)
	n.Mul(n, big.NewInt(unit))
	n, rest := n.QuoRem(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(len(fraction))), nil), new(big.Int))
	switch {
	case rest.Sign() != 0:
		return 0, ruleSizePart
	case !n.IsInt64():
		return 0, ruleSizeRange
	}
	return Size(n.Int64()), ""
}

// sizeUnit is how many bytes a unit is, or the rule that is broken.
func sizeUnit(text string) (bytes int64, rule string) {
	lower := strings.ToLower(text)
	switch {
	case text == "" || text == "B":
		return 1, ""
	case text == "b":
		return 0, ruleSizeBits
	case len(lower) == 1 && strings.IndexByte("kmgtpe", lower[0]) >= 0:
		return 0, ruleSizeBare
	case strings.IndexByte("0123456789.,+-_", text[0]) >= 0: // not a unit, but more of a number
		return 0, ruleSize
	case text[0] >= utf8.RuneSelf: // a Kelvin sign is a k in small letters
		return 0, ruleSizeUnit
	}
	bytes, ok := sizeUnits[lower]
	switch {
	case !ok:
		return 0, ruleSizeUnit
	case strings.HasSuffix(text, "b") && text[0] < 'a':
		return 0, ruleSizeBits
	}
	return bytes, ""
}

// String is s as ParseSize reads it, exactly: as the smallest whole number that some unit allows, as in
// "1536MiB". A size that is negative by mistake is its number.
func (s Size) String() string {
	best, unit := int64(s), ""
	try := func(step int64, units ...string) {
		n := int64(s)
		for _, u := range units {
			if n%step != 0 {
				return
			}
			if n /= step; n < best {
				best, unit = n, u
			}
		}
	}
	try(1024, "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
	try(1000, "kB", "MB", "GB", "TB", "PB", "EB")
	return strconv.FormatInt(best, 10) + unit
}

// MarshalText writes what String does. A negative size is an [*Error].
func (s Size) MarshalText() ([]byte, error) {
	if s < 0 {
		return nil, sizeError("encode", ruleSizeNegative)
	}
	return []byte(s.String()), nil
}

// UnmarshalText reads a size as [ParseSize] does.
func (s *Size) UnmarshalText(text []byte) error {
	v, err := ParseSize(string(text))
	if err == nil {
		*s = v
	}
	return err
}

// UnmarshalJSON reads a string as [ParseSize] does, or a number: a whole number of bytes. As with
// encoding/json, null changes nothing.
func (s *Size) UnmarshalJSON(data []byte) error {
	v, rule := jsonSize(data)
	switch {
	case string(data) == "null":
		return nil
	case rule != "":
		return sizeError("decode", rule)
	}
	*s = v
	return nil
}

// jsonSize reads a value of JSON, or returns the rule that is broken.
func jsonSize(data []byte) (s Size, rule string) {
	switch text := string(data); {
	case text == "" || text[0] != '-' && text[0] != '"' && !isDigit(text[0]):
		return 0, ruleSize
	case text[0] == '"':
		if json.Unmarshal(data, &text) != nil {
			return 0, ruleSize
		}
		return parseSize(text)
	case strings.Trim(text, "-0123456789") != "":
		return 0, ruleSizeNumber
	default:
		return parseSize(text)
	}
}

var sizeType = reflect.TypeFor[Size]()

// ruleOf is what to say of text, or of JSON, that type t did not take. What t itself says may quote it,
// unless it is a type of this package.
func ruleOf(t reflect.Type, data []byte, isJSON bool) string {
	if t == sizeType {
		rule := ""
		if isJSON {
			_, rule = jsonSize(data)
		} else {
			_, rule = parseSize(string(data))
		}
		if rule != "" {
			return rule
		}
	}
	return "not a valid " + t.String()
}
