// Instances that all reach the first one of the data network. There is no sync service in it, and so nothing but time
// that it takes of a machine with a thousand of them.
package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	first = "16.0.0.2"
	port  = ":7000"
	again = 200 * time.Millisecond
)

func main() {
	if err := reach(time.Now().Add(2 * time.Minute)); err != nil {
		fmt.Printf("{\"event\":{\"failure_event\":{\"group\":\"single\",\"error\":%q}}}\n", err)
		os.Exit(1)
	}
	fmt.Println(`{"event":{"success_event":{"group":"single"}}}`)
}

func reach(deadline time.Time) error {
	if door, err := net.ListenPacket("udp", first+port); err == nil {
		return answer(door, deadline)
	}
	conn, err := net.Dial("udp", first+port)
	if err != nil {
		return err
	}
	buffer := make([]byte, 16)
	for time.Now().Before(deadline) {
		conn.Write([]byte("hello")) // refused while the first is not there yet
		conn.SetReadDeadline(time.Now().Add(again))
		if _, err := conn.Read(buffer); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s has not answered", first)
}

// answer tells everybody that they were heard, until all have been.
func answer(door net.PacketConn, deadline time.Time) error {
	others, err := strconv.Atoi(os.Getenv("TEST_INSTANCE_COUNT"))
	if err != nil {
		return err
	}
	others--
	door.SetReadDeadline(deadline)
	heard := map[string]bool{}
	buffer := make([]byte, 16)
	for len(heard) < others {
		_, from, err := door.ReadFrom(buffer)
		if err != nil {
			return fmt.Errorf("heard of %d of %d others: %w", len(heard), others, err)
		}
		heard[from.String()] = true
		door.WriteTo(buffer[:1], from)
	}
	return os.WriteFile(filepath.Join(os.Getenv("TEST_OUTPUTS_PATH"), "heard"), []byte(strconv.Itoa(len(heard))), 0o644)
}
