package command

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"
)

// kvKey is a key as it is asked for: none begins with a slash, but people write
// one.
func kvKey(arg string) string { return strings.TrimPrefix(arg, "/") }

// dataArgument returns the data that an argument stands for: the file of @FILE,
// the standard input for -, or itself.
func dataArgument(in *invocation, arg string) ([]byte, error) {
	switch {
	case arg == "-":
		b, err := io.ReadAll(in.env.stdin)
		if err != nil {
			return nil, fmt.Errorf("Failed to read stdin: %w", err)
		}
		return b, nil
	case strings.HasPrefix(arg, "@"):
		b, err := os.ReadFile(arg[1:])
		if err != nil {
			return nil, fmt.Errorf("Failed to read file: %w", err)
		}
		return b, nil
	}
	return []byte(arg), nil
}

// kvText is a value as it is shown.
func kvText(value []byte, encode bool) string {
	if encode {
		return base64.StdEncoding.EncodeToString(value)
	}
	return string(value)
}
