package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// parseJSON reads one JSON document whose top is an object. Errors give the
// line and what JSON expects, never a piece of the text.
func parseJSON(file string, data []byte) (*node, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		line := 1 + bytes.Count(data, []byte("\n"))
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			line = lineAt(data, syntax.Offset)
		}
		return nil, fmt.Errorf("%s:%d: not valid JSON: %s", file, line, jsonReason(data, err))
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	p := &jsonParser{file: file, data: data, dec: dec, line: 1}
	top, err := p.value()
	if err != nil {
		return nil, fmt.Errorf("%s:%d: not valid JSON", file, p.line)
	}
	if top.kind != objectNode {
		return nil, fmt.Errorf("%s:%d: the top of a configuration must be an object, not %s", file, top.at.line, top.kind)
	}
	return top, nil
}

// jsonReason is the library's reason without the character it quotes.
func jsonReason(data []byte, err error) string {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return "cannot be read"
	}
	text := syntax.Error()
	if strings.HasPrefix(text, "invalid character") {
		for _, mark := range []string{"after ", "looking for ", "in "} {
			if i := strings.Index(text[len("invalid character"):], " "+mark); i >= 0 {
				rest := text[len("invalid character")+i:]
				if !strings.ContainsAny(rest, "'\"\n") {
					return "unexpected character" + rest
				}
			}
		}
		return "unexpected character"
	}
	if len(bytes.TrimSpace(data)) == 0 || strings.Contains(text, "unexpected end") {
		return "the file ends too early"
	}
	return "syntax error"
}

func lineAt(data []byte, offset int64) int {
	offset = min(max(offset, 0), int64(len(data)))
	return 1 + bytes.Count(data[:offset], []byte("\n"))
}

type jsonParser struct {
	file string
	data []byte
	dec  *json.Decoder
	off  int64
	line int
}

// token reads the next token and moves line to the one it ends in.
func (p *jsonParser) token() (json.Token, error) {
	tok, err := p.dec.Token()
	if off := p.dec.InputOffset(); off > p.off {
		p.line += bytes.Count(p.data[p.off:off], []byte("\n"))
		p.off = off
	}
	return tok, err
}

func (p *jsonParser) value() (*node, error) {
	tok, err := p.token()
	if err != nil {
		return nil, err
	}
	n := &node{at: place{p.file, p.line}}
	switch v := tok.(type) {
	case nil:
	case string:
		n.kind, n.str = stringNode, v
	case bool:
		n.kind, n.b = boolNode, v
	case json.Number:
		n.json = true
		if i, err := v.Int64(); err == nil {
			n.kind, n.i, n.f = intNode, i, float64(i)
			break
		}
		n.kind = floatNode
		if n.f, err = v.Float64(); err != nil {
			n.f = 1e300 // beyond every limit, so its key's check refuses it
		}
	case json.Delim:
		if v == '[' {
			n.kind = listNode
			for p.dec.More() {
				item, err := p.value()
				if err != nil {
					return nil, err
				}
				n.list = append(n.list, item)
			}
		} else {
			n.kind, n.obj = objectNode, map[string]*node{}
			for p.dec.More() {
				key, err := p.token()
				if err != nil {
					return nil, err
				}
				name, ok := key.(string)
				if !ok {
					return nil, io.ErrUnexpectedEOF
				}
				line := p.line
				item, err := p.value()
				if err != nil {
					return nil, err
				}
				if item.kind != objectNode && item.kind != listNode {
					item.at.line = line
				}
				n.set(name, item)
			}
		}
		if _, err := p.token(); err != nil {
			return nil, err
		}
	}
	return n, nil
}
