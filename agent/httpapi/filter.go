package httpapi

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/go-bexpr"
)

// maxFilter bounds ?filter, in bytes.
const maxFilter = 8 << 10

// maxExpressions bounds the work of reading a filter: the parser tries every
// reading of nested parentheses. Some ten levels of them fit.
const maxExpressions = 500_000

var errFilterLength = failure(http.StatusBadRequest, "The filter is too long: at most %d bytes are read", maxFilter)

func filterFailed(err error) error {
	return failure(http.StatusInternalServerError, "Failed to create boolean expression evaluator: %.200s", err)
}

// matcher is ?filter over values of this process, nil where there is none. T is
// what the filter's selectors are about.
type matcher[T any] func(*T) (bool, error)

// filterOf reads ?filter. That its selectors exist is found out here, not at the
// first value.
func filterOf[T any](r *request) (matcher[T], error) {
	text := r.q.get("filter")
	if text == "" {
		return nil, nil
	}
	if len(text) > maxFilter {
		return nil, errFilterLength
	}
	eval, err := bexpr.CreateEvaluator(text, bexpr.WithMaxExpressions(maxExpressions))
	if err != nil {
		return nil, filterFailed(err)
	}
	match := func(v *T) (bool, error) {
		ok, err := eval.Evaluate(v)
		if err != nil {
			return false, filterFailed(err)
		}
		return ok, nil
	}
	// The library tells a field that T does not have from a key that a map does
	// not have by its words only.
	if _, err := match(new(T)); err != nil {
		if _, field, ok := strings.Cut(err.Error(), "struct field with name "); ok {
			return nil, filterFailed(fmt.Errorf("Selector %s is not valid", field))
		}
	}
	return match, nil
}

func (m matcher[T]) match(v *T) (bool, error) {
	if m == nil {
		return true, nil
	}
	return m(v)
}
