// Oracle answers what upstream's api package makes of a composition: a request per line in, a line of JSON out.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/BurntSushi/toml"
	"github.com/testground/testground/pkg/api"
)

// request is one question. Either Body, the JSON that a daemon gets with /run, or the two TOML texts that a client
// reads, of which it makes such a body.
type request struct {
	Body        *string `json:"body"`
	Composition string  `json:"composition"`
	Manifest    string  `json:"manifest"`
	// Default makes the default run and sends it over the wire, as every client does, before anything is prepared.
	Default bool `json:"default"`
	// Decode asks for nothing after decoding.
	Decode bool `json:"decode"`
}

// step is what one function made: a value, or the text of its error or panic.
type step struct {
	Value any    `json:"value,omitempty"`
	Error string `json:"error,omitempty"`
	Panic string `json:"panic,omitempty"`
}

func main() {
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var asked request
		if err := json.Unmarshal(line, &asked); err != nil {
			log.Fatal(err)
		}
		if err := out.Encode(answer(asked)); err != nil {
			log.Fatal(err)
		}
	}
}

func answer(asked request) map[string]step {
	steps := map[string]step{}
	body := received(asked, steps)
	if body == nil || asked.Decode {
		return steps
	}
	if asked.Default {
		body = sent(body, func(run *api.RunRequest) { run.Composition = *run.Composition.GenerateDefaultRun() })
	}
	for name, judge := range judges {
		steps[name] = attempt(func() (any, error) { return judge(decoded(body)) })
	}
	return steps
}

// received is the body of a /run request, or nil if there is none to be had.
func received(asked request, steps map[string]step) []byte {
	if asked.Body != nil {
		var run api.RunRequest
		steps["decoded"] = attempt(func() (any, error) {
			err := json.NewDecoder(bytes.NewBufferString(*asked.Body)).Decode(&run)
			return run, err
		})
		return settled(steps, run, "decoded")
	}
	var run api.RunRequest
	steps["composition"] = attempt(func() (any, error) {
		_, err := toml.Decode(asked.Composition, &run.Composition)
		return run.Composition, err
	})
	steps["manifest"] = attempt(func() (any, error) {
		_, err := toml.Decode(asked.Manifest, &run.Manifest)
		return run.Manifest, err
	})
	return settled(steps, run, "composition", "manifest")
}

func settled(steps map[string]step, run api.RunRequest, names ...string) []byte {
	for _, name := range names {
		if steps[name].Value == nil {
			return nil
		}
	}
	return must(run)
}

// judges are the functions that a client or a daemon calls. Each gets a request of its own: some change what they get.
var judges = map[string]func(run *api.RunRequest) (any, error){
	"default_run": func(run *api.RunRequest) (any, error) {
		return run.Composition.GenerateDefaultRun(), nil
	},
	"valid_for_build": func(run *api.RunRequest) (any, error) {
		return true, run.Composition.ValidateForBuild()
	},
	"valid_for_run": func(run *api.RunRequest) (any, error) {
		return true, run.Composition.ValidateForRun()
	},
	"built": func(run *api.RunRequest) (any, error) {
		return run.Composition.PrepareForBuild(&run.Manifest)
	},
	"build_keys": func(run *api.RunRequest) (any, error) {
		prepared, err := run.Composition.PrepareForBuild(&run.Manifest)
		if err != nil {
			return nil, err
		}
		keys := []string{}
		for _, group := range prepared.Groups {
			keys = append(keys, group.BuildKey())
		}
		return keys, nil
	},
	"run": func(run *api.RunRequest) (any, error) {
		return run.Composition.PrepareForRun(&run.Manifest)
	},
	"counts": func(run *api.RunRequest) (any, error) {
		prepared, err := run.Composition.PrepareForRun(&run.Manifest)
		if err != nil {
			return nil, err
		}
		counts := [][]uint{}
		for _, run := range prepared.Runs {
			members := []uint{}
			for _, member := range run.Groups {
				members = append(members, member.CalculatedInstanceCount())
			}
			counts = append(counts, members)
		}
		return counts, nil
	},
	"framed": func(run *api.RunRequest) (any, error) {
		framed := map[string]step{}
		for _, id := range run.Composition.ListRunIds() {
			framed[id] = attempt(func() (any, error) { return run.Composition.FrameForRuns(id) })
		}
		return framed, nil
	},
	"written": func(run *api.RunRequest) (any, error) {
		directory, err := os.MkdirTemp("", "oracle")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(directory)
		file := filepath.Join(directory, "composition.toml")
		if err := api.WriteCompositionToFile(&run.Composition, file); err != nil {
			return nil, err
		}
		text, err := os.ReadFile(file)
		return string(text), err
	},
}

// attempt catches panics, which upstream's daemon does not.
func attempt(function func() (any, error)) (result step) {
	defer func() {
		if reason := recover(); reason != nil {
			result = step{Panic: fmt.Sprint(reason)}
		}
	}()
	value, err := function()
	if err != nil {
		return step{Error: err.Error()}
	}
	text, err := json.Marshal(value) // now: what is shared may change later
	if err != nil {
		return step{Error: err.Error()}
	}
	return step{Value: json.RawMessage(text)}
}

func sent(body []byte, change func(run *api.RunRequest)) []byte {
	run := decoded(body)
	change(run)
	return must(run)
}

func decoded(body []byte) *api.RunRequest {
	run := new(api.RunRequest)
	if err := json.Unmarshal(body, run); err != nil {
		log.Fatal(err)
	}
	return run
}

func must(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		log.Fatal(err)
	}
	return text
}
