# Removes the SentinelOne agent. Exit code: 0 removed or not there, 3010 a reboot completes it, 1 failed.
# The vendor takes the passphrase as an argument: an administrator of this computer can see it while the tool runs.
param([Parameter(Mandatory = $true)] [string] $Passphrase)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'
if ($Passphrase.Contains('"')) { throw 'the passphrase holds a quotation mark, which the uninstaller cannot take' }

# A backslash before the closing quotation mark would take it for a part of the passphrase.
$key = $Passphrase -replace '(\\+)$', '$1$1'

# A 32-bit PowerShell has the other folder in ProgramFiles.
$root = $env:ProgramW6432
if (-not $root) { $root = $env:ProgramFiles }
$root = Join-Path $root 'SentinelOne'
$programs = @()
if (Test-Path -LiteralPath $root) {
    foreach ($folder in @(Get-ChildItem -LiteralPath $root -Directory)) {
        $program = Join-Path $folder.FullName 'uninstall.exe'
        if ($folder.Name -like 'Sentinel Agent*' -and (Test-Path -LiteralPath $program -PathType Leaf)) { $programs += $program }
    }
}
if ($programs.Count -eq 0) {
    Write-Output 'the SentinelOne agent is not installed'
    exit 0
}
$worst = 0
foreach ($program in $programs) {
    $start = New-Object System.Diagnostics.ProcessStartInfo
    $start.FileName = $program
    $start.Arguments = "/uninstall /norestart /q /k=`"$key`""
    $start.UseShellExecute = $false
    $start.CreateNoWindow = $true
    $process = [System.Diagnostics.Process]::Start($start)
    $process.WaitForExit()
    Write-Output "$program ended with exit code $($process.ExitCode)"
    # A failure outweighs a reboot.
    if (@(3010, 1641) -contains $process.ExitCode) { if ($worst -eq 0) { $worst = 3010 } }
    elseif ($process.ExitCode -ne 0) { $worst = 1 }
}
exit $worst
