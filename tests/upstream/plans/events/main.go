// A plan without requirements: it needs no network to build and no sync service to run.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const ticks = 400 // 40 seconds: more than a test waits for, less than for ever

func main() {
	group, params := os.Getenv("TEST_GROUP_ID"), os.Getenv("TEST_INSTANCE_PARAMS")
	say("message_event", map[string]string{"message": "parameters: " + params})
	leave("note.txt", "written by "+group)
	if os.Getenv("TEST_CASE") == "tick" {
		for tick := 1; tick <= ticks; tick++ {
			say("message_event", map[string]string{"message": fmt.Sprintf("tick %d", tick)})
			time.Sleep(100 * time.Millisecond)
		}
	}
	switch {
	case strings.Contains(params, "how=nothing"):
		os.Exit(7)
	case strings.Contains(params, "how=failure"):
		say("failure_event", map[string]string{"group": group, "error": "as it was told"})
	default:
		say("success_event", map[string]string{"group": group})
	}
}

func say(kind string, content map[string]string) {
	event := map[string]any{kind: content}
	line, _ := json.Marshal(map[string]any{"ts": time.Now().UnixNano(), "event": event})
	fmt.Println(string(line))
}

func leave(name, content string) {
	path := filepath.Join(os.Getenv("TEST_OUTPUTS_PATH"), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
