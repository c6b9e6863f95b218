// Renders composition templates with upstream's own code: one JSON request per line in, one JSON answer per line out.
//
// Upstream keeps the function to itself, so that it is linked by its name. What it takes as its data is a struct with
// nothing but the environment.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	_ "unsafe" // for go:linkname

	_ "github.com/testground/testground/pkg/cmd"
)

type data struct {
	Env map[string]string
}

//go:linkname compile github.com/testground/testground/pkg/cmd.compileCompositionTemplate
func compile(path string, input *data) (*bytes.Buffer, error)

type request struct {
	Path string            `json:"path"`
	Env  map[string]string `json:"env"`
}

type answer struct {
	Text  []byte `json:"text"` // base64: it need not be UTF-8
	Error string `json:"error"`
}

func main() {
	lines := bufio.NewReader(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var asked request
		if err := json.Unmarshal(line, &asked); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := out.Encode(render(asked)); err != nil {
			os.Exit(1)
		}
	}
}

func render(asked request) (said answer) {
	defer func() {
		if r := recover(); r != nil {
			said = answer{Error: fmt.Sprint("panic: ", r)}
		}
	}()
	text, err := compile(asked.Path, &data{Env: asked.Env})
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Text: text.Bytes()}
}
