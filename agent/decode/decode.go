// Package decode reads one object whose keys come in any spelling of the
// family: any case, with or without underscores. Values come from a JSON body or
// from a configuration file; nothing is converted that could hide a mistake, so
// "true" is no boolean and "80" no number. No error holds a value.
package decode

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Fields are the known keys of an object, as Fold spells them, each with where
// its value goes: a pointer to a string, bool, int, time.Duration, []string,
// map[string]string or map[string][]string, or a func(any) error.
type Fields map[string]any

// Fold is the spelling of a key by which it is known.
func Fold(key string) string { return strings.ToLower(strings.ReplaceAll(key, "_", "")) }

// Object puts the values of raw where fields says. A null value is as if the key
// were not there. The error is about the first bad key, and names it.
func Object(raw map[string]any, fields Fields) error {
	keys := make([]string, 0, len(raw))
	for key := range raw {
		keys = append(keys, key)
	}
	slices.Sort(keys) // so that of several mistakes it is always the same one
	seen := map[string]string{}
	for _, key := range keys {
		folded := Fold(key)
		to, ok := fields[folded]
		if !ok {
			return fmt.Errorf("unknown key %q", cut(key))
		}
		value := raw[key]
		if value == nil {
			continue
		}
		if other, ok := seen[folded]; ok {
			return fmt.Errorf("keys %q and %q are the same", other, key)
		}
		seen[folded] = key
		if err := put(to, value); err != nil {
			return fmt.Errorf("key %q %w", key, err)
		}
	}
	return nil
}

type wants string

func (w wants) Error() string { return "wants " + string(w) }

func put(to, value any) error {
	switch to := to.(type) {
	case func(any) error:
		return to(value)
	case *string:
		s, ok := value.(string)
		if !ok {
			return wants("a string")
		}
		*to = s
	case *bool:
		b, ok := value.(bool)
		if !ok {
			return wants("true or false")
		}
		*to = b
	case *int:
		n, ok := Int(value)
		if !ok || n < math.MinInt32 || n > math.MaxInt32 {
			return wants("a whole number")
		}
		*to = int(n)
	case *time.Duration:
		return duration(to, value)
	case *[]string:
		list, ok := Strings(value)
		if !ok {
			return wants("a list of strings")
		}
		*to = list
	case *map[string]string:
		m, ok := value.(map[string]any)
		if !ok {
			return wants("a map of strings")
		}
		out := make(map[string]string, len(m))
		for k, v := range m {
			s, ok := v.(string)
			if !ok {
				return wants("a map of strings")
			}
			out[k] = s
		}
		*to = out
	case *map[string][]string:
		m, ok := value.(map[string]any)
		if !ok {
			return wants("a map of lists of strings")
		}
		out := make(map[string][]string, len(m))
		for k, v := range m {
			if s, ok := v.(string); ok {
				v = []any{s}
			}
			list, ok := Strings(v)
			if !ok {
				return wants("a map of lists of strings")
			}
			out[k] = list
		}
		*to = out
	default:
		panic(fmt.Sprintf("decode: no way to fill a %T", to))
	}
	return nil
}

// duration reads a text with a unit, or a number of nanoseconds.
func duration(to *time.Duration, value any) error {
	const form = wants(`a duration, such as "10s"`)
	d := time.Duration(0)
	if s, ok := value.(string); ok {
		if s != "" {
			var err error
			if d, err = time.ParseDuration(s); err != nil {
				return form
			}
		}
	} else if n, ok := Int(value); ok {
		d = time.Duration(n)
	} else {
		return form
	}
	if d < 0 {
		return fmt.Errorf("must not be negative")
	}
	*to = d
	return nil
}

// Int reads a whole number in any of the forms that parsers give it.
func Int(value any) (int64, bool) {
	switch v := value.(type) {
	case int:
		return int64(v), true
	case int64:
		return v, true
	case json.Number:
		n, err := v.Int64()
		return n, err == nil
	case float64:
		if v != math.Trunc(v) || math.Abs(v) >= 1<<63 {
			return 0, false
		}
		return int64(v), true
	}
	return 0, false
}

// Strings reads a list of strings.
func Strings(value any) ([]string, bool) {
	switch v := value.(type) {
	case []string:
		return v, true
	case []any:
		out := make([]string, 0, len(v))
		for _, item := range v {
			s, ok := item.(string)
			if !ok {
				return nil, false
			}
			out = append(out, s)
		}
		return out, true
	}
	return nil, false
}

// cut shortens text that comes from outside for use in a message.
func cut(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// OnlyDefault takes the name of a namespace or partition, of which there is only
// the default one.
func OnlyDefault(value any) error {
	if s, ok := value.(string); !ok || s != "" && s != "default" {
		return fmt.Errorf(`can only be "default"`)
	}
	return nil
}

// Known is raw without the keys that fields does not have.
func Known(raw map[string]any, fields Fields) map[string]any {
	out := make(map[string]any, len(raw))
	for key, value := range raw {
		if _, ok := fields[Fold(key)]; ok {
			out[key] = value
		}
	}
	return out
}
