package server

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"time"

	"github.com/hashicorp/go-bexpr"
	"github.com/hashicorp/go-bexpr/grammar"
	"github.com/mitchellh/pointerstructure"
)

// Bounds of a filter expression. Parsing backtracks and a collection inside a
// collection multiplies: both cost more than their text is long.
const (
	maxFilter      = 8 << 10 // bytes
	maxFilterSteps = 500_000 // of the parser
	filterDepth    = 1       // collection expressions inside each other
)

// maxFilterTime bounds what the elements of one answer may cost: regular
// expressions of 8 KiB over the outputs of some thousand checks take minutes.
const maxFilterTime = 5 * time.Second

var errFilterTime = fmt.Errorf("filter: it takes longer than %s on what there is; use fewer regular expressions", maxFilterTime)

// filterError is the error of an expression that cannot be used at all.
func filterError(err error) error {
	return fmt.Errorf("Failed to create boolean expression evaluator: %w", err)
}

// filter returns the elements that the expression lets through, in a list of its
// own; without an expression it returns l. An expression that does not fit the
// type is an error whether or not there are elements.
func filter[T any](expr string, l []T) ([]T, error) {
	if expr == "" {
		return l, nil
	}
	f, err := newEvaluator(expr, reflect.TypeFor[T]())
	if err != nil {
		return nil, err
	}
	out := []T{}
	for _, v := range l {
		ok, err := f.matches(v)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, v)
		}
	}
	return out, nil
}

// filterMap is filter for the values of a map.
func filterMap[T any](expr string, m map[string]T) (map[string]T, error) {
	f, err := newEvaluator(expr, reflect.TypeFor[T]())
	if err != nil {
		return nil, err
	}
	out := map[string]T{}
	for k, v := range m {
		ok, err := f.matches(v)
		if err != nil {
			return nil, err
		}
		if ok {
			out[k] = v
		}
	}
	return out, nil
}

type evaluator struct {
	eval *bexpr.Evaluator
	end  time.Time // no more elements after it
	// missing is eval for elements that lack a map's entry in the middle of a
	// path, TaggedAddresses.wan.Port say: it takes what is not there for empty.
	// nil until there is such an element.
	missing *bexpr.Evaluator
}

func newEvaluator(expr string, t reflect.Type) (*evaluator, error) {
	if len(expr) > maxFilter {
		return nil, filterError(fmt.Errorf("expression has %d bytes, at most %d are allowed", len(expr), maxFilter))
	}
	ast, err := grammar.Parse("", []byte(expr), grammar.MaxExpressions(maxFilterSteps))
	if err != nil {
		return nil, filterError(err)
	}
	tree, ok := ast.(grammar.Expression)
	if !ok {
		return nil, filterError(errors.New("not an expression"))
	}
	if err := checkFilter(tree, filterScope{element: t}); err != nil {
		return nil, filterError(err)
	}
	f := &evaluator{end: time.Now().Add(maxFilterTime)}
	if f.eval, err = bexpr.CreateEvaluator(expr, bexpr.WithMaxExpressions(maxFilterSteps)); err != nil {
		return nil, filterError(err)
	}
	return f, nil
}

func (f *evaluator) matches(v any) (bool, error) {
	if time.Now().After(f.end) {
		return false, errFilterTime
	}
	ok, err := f.eval.Evaluate(v)
	if errors.Is(err, pointerstructure.ErrNotFound) {
		if f.missing == nil {
			f.missing, err = bexpr.CreateEvaluator(f.eval.Expression(), bexpr.WithMaxExpressions(maxFilterSteps), bexpr.WithUnknownValue(""))
			if err != nil {
				return false, filterError(err)
			}
		}
		ok, err = f.missing.Evaluate(v)
	}
	if errors.Is(err, pointerstructure.ErrInvalidKind) || errors.Is(err, pointerstructure.ErrOutOfRange) {
		return false, nil // a pointer that is nil, a list that is shorter
	}
	if err != nil {
		return false, fmt.Errorf("filter: %w", err)
	}
	return ok, nil
}

// filterScope is what names in an expression stand for.
type filterScope struct {
	element reflect.Type
	bound   map[string]reflect.Type // by the collection expressions around
	depth   int
}

// checkFilter finds what is wrong with an expression without an element to try
// it on: fields that the type does not have, values of another type.
func checkFilter(e grammar.Expression, s filterScope) error {
	switch e := e.(type) {
	case *grammar.UnaryExpression:
		return checkFilter(e.Operand, s)
	case *grammar.BinaryExpression:
		return errors.Join(checkFilter(e.Left, s), checkFilter(e.Right, s))
	case *grammar.MatchExpression:
		t, err := s.resolve(e.Selector)
		if err != nil {
			return err
		}
		return checkMatch(e, t)
	case *grammar.CollectionExpression:
		return checkCollection(e, s)
	}
	return fmt.Errorf("unknown kind of expression %T", e)
}

func checkCollection(e *grammar.CollectionExpression, s filterScope) error {
	if s.depth == filterDepth {
		return errors.New("any and all cannot be used inside each other")
	}
	t, err := s.resolve(e.Selector)
	if err != nil {
		return err
	}
	key, value := reflect.TypeFor[int](), reflect.Type(nil)
	switch t.Kind() {
	case reflect.Map:
		key, value = t.Key(), t.Elem()
	case reflect.Slice, reflect.Array:
		value = t.Elem()
	default:
		return fmt.Errorf("%s has no elements", e.Selector)
	}
	one := value // what a single name stands for
	if t.Kind() == reflect.Map {
		one = key
	}
	bound := map[string]reflect.Type{}
	for name, t := range map[string]reflect.Type{e.NameBinding.Default: one, e.NameBinding.Index: key, e.NameBinding.Value: value} {
		if name != "" {
			bound[name] = t
		}
	}
	return checkFilter(e.Inner, filterScope{element: s.element, bound: bound, depth: s.depth + 1})
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// resolve returns the type of what a selector selects.
func (s filterScope) resolve(sel grammar.Selector) (reflect.Type, error) {
	t, path := s.element, sel.Path
	if len(path) > 0 && s.bound[path[0]] != nil {
		t, path = s.bound[path[0]], path[1:]
	}
	for _, part := range path {
		t = deref(t)
		switch t.Kind() {
		case reflect.Struct:
			f, ok := t.FieldByName(part)
			if !ok || len(f.Index) != 1 {
				return nil, fmt.Errorf("Selector %q is not valid", sel)
			}
			t = f.Type
		case reflect.Map, reflect.Slice, reflect.Array:
			t = t.Elem()
		default:
			return nil, fmt.Errorf("Selector %q is not valid", sel)
		}
	}
	return deref(t), nil
}

// checkMatch says whether an operator and its value go with a type.
func checkMatch(e *grammar.MatchExpression, t reflect.Type) error {
	unfit := fmt.Errorf("Invalid match operator %q for selector %q", e.Operator, e.Selector)
	switch e.Operator {
	case grammar.MatchEqual, grammar.MatchNotEqual:
		return checkValue(e, t, unfit)
	case grammar.MatchIn, grammar.MatchNotIn, grammar.MatchContains, grammar.MatchNotContains:
		switch t.Kind() {
		case reflect.String:
			return nil
		case reflect.Map:
			return checkValue(e, t.Key(), unfit)
		case reflect.Slice, reflect.Array:
			return checkValue(e, deref(t.Elem()), unfit)
		}
	case grammar.MatchIsEmpty, grammar.MatchIsNotEmpty:
		if slices.Contains([]reflect.Kind{reflect.String, reflect.Map, reflect.Slice, reflect.Array}, t.Kind()) {
			return nil
		}
	case grammar.MatchIsNil, grammar.MatchIsNotNil:
		if slices.Contains([]reflect.Kind{reflect.Struct, reflect.Map, reflect.Slice}, t.Kind()) {
			return nil
		}
	case grammar.MatchMatches, grammar.MatchNotMatches:
		if t.Kind() == reflect.String && e.Value != nil {
			_, err := regexp.Compile(e.Value.Raw)
			return err
		}
	}
	return unfit
}

func checkValue(e *grammar.MatchExpression, t reflect.Type, unfit error) (err error) {
	if e.Value == nil {
		return unfit
	}
	switch t.Kind() {
	case reflect.String:
	case reflect.Bool:
		_, err = bexpr.CoerceBool(e.Value.Raw)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		_, err = bexpr.CoerceInt64(e.Value.Raw)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		_, err = bexpr.CoerceUint64(e.Value.Raw)
	case reflect.Float32, reflect.Float64:
		_, err = bexpr.CoerceFloat64(e.Value.Raw)
	default:
		return unfit
	}
	if err != nil {
		return fmt.Errorf("value %.64q for selector %q: %w", e.Value.Raw, e.Selector, err)
	}
	return nil
}
