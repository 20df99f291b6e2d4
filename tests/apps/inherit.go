package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil || os.Getenv("LISTEN_PID") != fmt.Sprint(os.Getpid()) {
		panic(fmt.Sprint(err, os.Getenv("LISTEN_PID"), os.Getpid()))
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, os.Getenv("BALANCER_BACKEND")) })
	panic(http.Serve(l, nil))
}
