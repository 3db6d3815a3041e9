#Requires -Version 5.1
#Requires -Modules ActiveDirectory
<#
.SYNOPSIS
Makes the accounts of the kcd-bridge acceptance kit in an organizational unit of their own, or removes them.

.DESCRIPTION
Everything it makes stands in the organizational unit KcdAcceptance and carries the same description. It changes nothing else, except that
the accounts become members of Protected Users, and, with -WithPrivileged, of Domain Admins. It can be run again at any time. -WhatIf
shows what would be done. Use a domain for tests. Passwords are random and are not kept.

Afterwards it writes the file of names for run.sh, and says how to export the keytabs.

.PARAMETER SiteHost
The host name of the IIS server, as clients ask for it. Its web site runs as the computer account.

.PARAMETER Path
Where the organizational unit goes; the domain itself, if left out.

.PARAMETER NamesFile
Where the names are written to.

.PARAMETER WithPrivileged
Makes an account in Domain Admins too, to see that the bridge refuses it.

.PARAMETER Remove
Removes what was made: the accounts in the organizational unit, and it. If anything in it was not made by this script, nothing is removed.

.EXAMPLE
.\Prepare-KcdAcceptance.ps1 -SiteHost iis1.corp.example -WhatIf

.EXAMPLE
.\Prepare-KcdAcceptance.ps1 -Remove
#>
[CmdletBinding(SupportsShouldProcess = $true, DefaultParameterSetName = 'Make')]
param(
    [Parameter(ParameterSetName = 'Make', Mandatory = $true)]
    [ValidatePattern('^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$')]
    [string] $SiteHost,

    [string] $Path,

    [Parameter(ParameterSetName = 'Make')]
    [string] $NamesFile = 'names.tsv',

    [Parameter(ParameterSetName = 'Make')]
    [switch] $WithPrivileged,

    [Parameter(ParameterSetName = 'Remove', Mandatory = $true)]
    [switch] $Remove
)

Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

$Marker = 'kcd-bridge acceptance kit: made by Prepare-KcdAcceptance.ps1'
$OuName = 'KcdAcceptance'
$Prefix = 'kcdt-'

$Domain = Get-ADDomain
# One domain controller for everything: what was just made must be there.
$Server = [string] $Domain.PDCEmulator
$DnsName = [string] $Domain.DNSRoot
$Realm = $DnsName.ToUpperInvariant()
if (-not $Path) { $Path = [string] $Domain.DistinguishedName }
$OuDn = "OU=$OuName,$Path"

# What is on the delegation lists.
$Listed = "HTTP/$SiteHost"
$SpnOf = @{}
foreach ($role in 'notlisted', 'nosuch', 'double', 'rc4', 'resource', 'wrongowner') {
    $SpnOf[$role] = "HTTP/$Prefix$role.$DnsName"
}
$DelegationList = @($Listed, $SpnOf['nosuch'], $SpnOf['double'], $SpnOf['rc4'], $SpnOf['wrongowner'])

# Case of run.sh's file of names, and value. A case without a value is skipped there.
$Names = New-Object System.Collections.Specialized.OrderedDictionary

function Get-Made {
    # The organizational unit, if it is there; an error if it is somebody else's.
    $found = @(Get-ADOrganizationalUnit -Server $Server -Filter "Name -eq '$OuName'" -SearchBase $Path -SearchScope OneLevel -Properties Description)
    if ($found.Count -eq 0) { return $null }
    if ([string] $found[0].Description -cne $Marker) { throw "$OuDn is there, and was not made by this script." }
    return $found[0]
}

function New-RandomPassword {
    $bytes = New-Object byte[] 32
    $random = [System.Security.Cryptography.RandomNumberGenerator]::Create()
    try { $random.GetBytes($bytes) } finally { $random.Dispose() }
    # The rules for complexity are met whatever the bytes are.
    return ConvertTo-SecureString -AsPlainText -Force -String ('aA1!' + [Convert]::ToBase64String($bytes))
}

function Set-TestAccount {
    # Makes the account if it is not there, and gives it these settings. Returns whether it is there now.
    [CmdletBinding(SupportsShouldProcess = $true)]
    param([string] $Role, [hashtable] $Settings = @{}, [string[]] $Spns = @(), [switch] $PasswordExpires)

    $sam = "$Prefix$Role"
    $account = Get-ADUser -Server $Server -Filter "sAMAccountName -eq '$sam'" -Properties Description
    if ($null -ne $account -and [string] $account.Description -cne $Marker) { throw "$sam is there, and was not made by this script." }
    if (-not $PSCmdlet.ShouldProcess("CN=$sam,$OuDn", 'make or set')) { return $false }
    if ($null -eq $account) {
        New-ADUser -Server $Server -Name $sam -SamAccountName $sam -UserPrincipalName "$sam@$DnsName" -Path $OuDn -Description $Marker `
            -AccountPassword (New-RandomPassword) -Enabled $true -PasswordNeverExpires (-not $PasswordExpires) `
            -KerberosEncryptionType 'AES128,AES256'
    }
    if ($Settings.Count -gt 0) { Set-ADUser -Server $Server -Identity $sam @Settings }
    if ($Spns.Count -gt 0) { Set-ADUser -Server $Server -Identity $sam -ServicePrincipalNames @{ Replace = $Spns } }
    return $true
}

function Set-Bridge {
    # An account that may delegate to the list.
    param([string] $Role, [bool] $Transition, [switch] $WithoutSpn, [switch] $Sensitive)

    $spns = @()
    if (-not $WithoutSpn) { $spns = @("HTTP/$Prefix$Role.$DnsName") }
    if (Set-TestAccount -Role $Role -Spns $spns -Settings @{ AccountNotDelegated = [bool] $Sensitive }) {
        Set-ADUser -Server $Server -Identity "$Prefix$Role" -Replace @{ 'msDS-AllowedToDelegateTo' = $DelegationList }
        Set-ADAccountControl -Server $Server -Identity "$Prefix$Role" -TrustedForDelegation $false -TrustedToAuthForDelegation $Transition
        $Names[$Role] = "$Prefix$Role@$Realm"
    }
}

function Set-Person {
    param([string] $Role, [hashtable] $Settings = @{}, [switch] $PasswordExpires)

    if (Set-TestAccount -Role $Role -Settings $Settings -PasswordExpires:$PasswordExpires) { $Names[$Role] = "$Prefix$Role@$DnsName" }
}

function Lock-TestAccount {
    # Only wrong passwords lock an account.
    [CmdletBinding(SupportsShouldProcess = $true)]
    param([string] $Sam)

    $threshold = [int] (Get-ADDefaultDomainPasswordPolicy -Server $Server).LockoutThreshold
    if ($threshold -eq 0) {
        Write-Warning "The domain locks nobody out (LockoutThreshold 0): the case of a locked account is skipped."
        return
    }
    if (-not $PSCmdlet.ShouldProcess($Sam, "lock by $threshold wrong passwords")) { return }
    foreach ($attempt in 1..$threshold) {
        $entry = New-Object System.DirectoryServices.DirectoryEntry("LDAP://$Server", "$($Domain.NetBIOSName)\$Sam", "wrong $attempt")
        try { $null = $entry.NativeObject } catch { Write-Verbose "Refused, as it should be." } finally { $entry.Dispose() }
    }
    if ((Get-ADUser -Server $Server -Identity $Sam -Properties LockedOut).LockedOut) {
        $Names['locked'] = "$Sam@$DnsName"
    } else {
        Write-Warning "$Sam is not locked out: the case is skipped."
    }
}

function Remove-Made {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param()

    # Everything is looked at before anything is removed.
    $unit = Get-Made
    if ($null -eq $unit) {
        Write-Output "There is no $OuDn."
        return
    }
    $inside = @(Get-ADObject -Server $Server -SearchBase $unit.DistinguishedName -SearchScope Subtree -Filter * -Properties Description |
            Where-Object { $_.ObjectGUID -ne $unit.ObjectGUID })
    $foreign = @($inside | Where-Object { [string] $_.Description -cne $Marker -or $_.ObjectClass -ne 'user' })
    if ($foreign.Count -gt 0) {
        throw "Not made by this script, so nothing is removed: $(($foreign | ForEach-Object { $_.DistinguishedName }) -join '; ')"
    }
    foreach ($object in $inside) {
        if ($PSCmdlet.ShouldProcess($object.DistinguishedName, 'remove')) {
            Remove-ADObject -Server $Server -Identity $object.ObjectGUID -Confirm:$false
        }
    }
    if ($PSCmdlet.ShouldProcess($unit.DistinguishedName, 'remove')) {
        # Not -Recursive: if anything is still in it, it stays.
        Remove-ADOrganizationalUnit -Server $Server -Identity $unit.ObjectGUID -Confirm:$false
    }
}

if ($Remove) {
    Remove-Made
    return
}

if ($null -eq (Get-Made)) {
    if ($PSCmdlet.ShouldProcess($OuDn, 'make the organizational unit')) {
        New-ADOrganizationalUnit -Server $Server -Name $OuName -Path $Path -Description $Marker -ProtectedFromAccidentalDeletion $false
    }
}

# Accounts of the bridge.
Set-Bridge -Role 'bridge' -Transition $true
Set-Bridge -Role 'notransition' -Transition $false
Set-Bridge -Role 'nospn' -Transition $true -WithoutSpn
Set-Bridge -Role 'ownsensitive' -Transition $true -Sensitive

# Back ends that are accounts only.
foreach ($role in 'notlisted', 'wrongowner') {
    if (Set-TestAccount -Role $role -Spns @($SpnOf[$role])) { $Names[$role] = $SpnOf[$role] }
}
if (Set-TestAccount -Role 'rc4' -Spns @($SpnOf['rc4']) -Settings @{ KerberosEncryptionType = 'RC4' }) { $Names['rc4'] = $SpnOf['rc4'] }
if (Set-TestAccount -Role 'resource' -Spns @($SpnOf['resource'])) {
    $allowed = Get-ADUser -Server $Server -Identity "${Prefix}notransition"
    Set-ADUser -Server $Server -Identity "${Prefix}resource" -PrincipalsAllowedToDelegateToAccount $allowed
    $Names['resource'] = $SpnOf['resource']
}
# Domain controllers since 2012 R2 refuse the second of a double SPN; then there is nothing to see.
$first = Set-TestAccount -Role 'double' -Spns @($SpnOf['double'])
try {
    if ((Set-TestAccount -Role 'double2' -Spns @($SpnOf['double'])) -and $first) { $Names['double'] = $SpnOf['double'] }
} catch {
    Write-Warning "The domain controller refuses a double SPN, as newer ones do: that case is skipped. ($($_.Exception.Message))"
}

# Users.
Set-Person -Role 'normal'
Set-Person -Role 'sensitive' -Settings @{ AccountNotDelegated = $true }
Set-Person -Role 'disabled' -Settings @{ Enabled = $false }
Set-Person -Role 'expired' -Settings @{ AccountExpirationDate = (Get-Date).AddDays(-2) }
Set-Person -Role 'nohours' -Settings @{ Replace = @{ logonHours = [byte[]] (New-Object byte[] 21) } }
Set-Person -Role 'mustchange' -PasswordExpires -Settings @{ ChangePasswordAtLogon = $true }
Set-Person -Role 'protected'
if ($Names.Contains('protected')) {
    try {
        Add-ADGroupMember -Server $Server -Identity "$($Domain.DomainSID)-525" -Members "${Prefix}protected"
    } catch {
        $Names.Remove('protected')
        Write-Warning "The domain has no group Protected Users: those cases are skipped. ($($_.Exception.Message))"
    }
}
if ($WithPrivileged) {
    Set-Person -Role 'privileged'
    if ($Names.Contains('privileged')) {
        Add-ADGroupMember -Server $Server -Identity "$($Domain.DomainSID)-512" -Members "${Prefix}privileged"
    }
}
if (Set-TestAccount -Role 'locked') { Lock-TestAccount -Sam "${Prefix}locked" }

# The rest of the names.
$Names['unknown'] = "${Prefix}nobody@$DnsName"
$Names['nosuch'] = $SpnOf['nosuch']
$Names['listed'] = $Listed
$Names['kdcs'] = $Server
if ($Names.Contains('bridge')) { $Names['wrongkey'] = $Names['bridge'] }
$Names['site'] = "http://$SiteHost/kcdt/kerberos"
$Names['open'] = "http://$SiteHost/kcdt/open"
$Names['ntlm'] = "http://$SiteHost/kcdt/ntlm"
foreach ($backend in 'lenient', 'ep-none', 'ep-allow', 'ep-require', 'ep-require-unbound') { $Names[$backend] = "backend:$backend" }

if ($PSCmdlet.ShouldProcess($NamesFile, 'write the names')) {
    $lines = foreach ($name in $Names.Keys) { "$name`t$($Names[$name])" }
    Set-Content -Path $NamesFile -Value $lines -Encoding UTF8
}

# Each export sets another password: the first of kcdt-bridge's keytabs is the one with the wrong key.
Write-Output ''
Write-Output 'Export the keytabs in this order, on a domain controller, and carry them to the host of the bridge by a safe way:'
foreach ($pair in @(@('wrongkey', 'bridge'), @('bridge', 'bridge'), @('notransition', 'notransition'), @('nospn', 'nospn'), @('ownsensitive', 'ownsensitive'))) {
    $sam = "$Prefix$($pair[1])"
    Write-Output ("  ktpass /out $($pair[0]).keytab /princ $sam@$Realm /mapuser $($Domain.NetBIOSName)\$sam " +
        '/crypto AES256-SHA1 /ptype KRB5_NT_PRINCIPAL /pass +rndPass -setupn')
}
